"""A plan that is carried away in a file, and comes back: signed, for it will be obeyed.

    "permdoctor plan file 1\\n", length and msgpack of the head, the plan's bytes, HMAC-SHA256

The key lies beside the journals and never leaves the host, so a file from elsewhere, or one that
somebody edited, is no plan here.  Each of its entries is compared with what is there all the same
when the plan is carried out.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
import struct
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from permdoctor.diagnosis.plan import Summary
from permdoctor.errors import UsageError
from permdoctor.kernel.text import printable
from permdoctor.repair.files import NO_MSGPACK, must_be_ours, writing
from permdoctor.repair.journal import About, Journal
from permdoctor.repair.options import Asked, CannotRepairError
from permdoctor.repair.store import Store

MAGIC = b"permdoctor plan file 1\n"
_LENGTH = struct.Struct("<I")
_SIGNATURE = hashlib.sha256().digest_size
_MOST_HEAD = 1 << 26


class Head(Struct, frozen=True, kw_only=True):
    """What a plan file says of itself.  ``key`` is the fingerprint of the key that signed it."""

    key: str
    about: About
    summary: Summary
    asked: Asked


def save(journal: Journal, file: str, store: Store, summary: Summary) -> None:
    """Write the journal's plan to a new file, readable by its owner only.

    Raises ``UsageError`` if the file exists, ``CannotRepairError`` where it cannot be written.
    """
    key = _key(store, create=True)
    head = msgspec.msgpack.encode(
        Head(key=_fingerprint(key), about=journal.about, summary=summary, asked=journal.asked)
    )
    shown = printable(file)
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{shown} exists", hint="a plan is never written over a file") from None
    except OSError as e:
        raise CannotRepairError(f"cannot write {shown}: {e.strerror}") from e
    try:
        with os.fdopen(fd, "wb") as out, open(journal.plan, "rb") as plan:
            signature = hmac.new(key, digestmod="sha256")
            for data in (MAGIC, _LENGTH.pack(len(head)), head, *_chunks(plan.fileno())):
                signature.update(data)
                out.write(data)
            out.write(signature.digest())
            out.flush()
            os.fsync(out.fileno())
    except OSError as e:
        with contextlib.suppress(OSError):
            os.unlink(file)
        raise CannotRepairError(f"cannot write {shown}: {e.strerror}") from e


def peek(file: str, store: Store) -> Head:
    """The head of a plan file whose signature is this host's.  Raises ``UsageError``."""
    with _opened(file) as fd:
        return _checked(fd, file, store)[0]


def load(file: str, journal: Journal, store: Store) -> Summary:
    """The plan of a file becomes the journal's.  Raises ``UsageError`` for a file of another
    host, one that was changed, and one that others can write.
    """
    with _opened(file) as fd:
        head, begin, end = _checked(fd, file, store)
        if head.about.roots != journal.about.roots:
            raise UsageError(f"{printable(file)} is a plan for another place")
        journal.adopt(fd, begin, end, head.summary, head.asked)
    return head.summary


@contextlib.contextmanager
def _opened(file: str) -> Iterator[int]:
    shown = printable(file)
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as e:
        raise UsageError(f"cannot read the plan {shown}: {e.strerror}") from e
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"the plan {shown} is not a regular file")
        if status.st_mode & 0o022 or status.st_uid not in (0, os.geteuid()):
            raise UsageError(
                f"the plan {shown} can be written by others (uid {status.st_uid}, mode "
                f"{stat.S_IMODE(status.st_mode):04o})",
                hint="make a new plan, and keep it where only you can write",
            )
        yield fd
    finally:
        os.close(fd)


def _checked(fd: int, file: str, store: Store) -> tuple[Head, int, int]:
    """The head, and where the plan begins and ends.  The whole file's signature is proved."""
    shown = printable(file)
    begin = len(MAGIC) + _LENGTH.size
    first = os.pread(fd, begin, 0)
    end = os.fstat(fd).st_size - _SIGNATURE
    if first[: len(MAGIC)] != MAGIC or len(first) < begin or end < begin:
        raise UsageError(f"{shown} is no plan of permdoctor", hint="`permdoctor fix --plan-out`")
    (size,) = _LENGTH.unpack(first[len(MAGIC) :])
    if size > min(_MOST_HEAD, end - begin):
        raise UsageError(f"the plan {shown} is damaged: its head is cut off")
    try:
        head = msgspec.msgpack.decode(os.pread(fd, size, begin), type=Head)
    except NO_MSGPACK:
        raise UsageError(f"the plan {shown} is damaged: its head cannot be read") from None
    key = _key(store, create=False)
    if not key or head.key != _fingerprint(key):
        raise UsageError(
            f"the plan {shown} was made on another host ({printable(head.about.host)}), or before "
            "this one's key was made",
            hint="a plan is good for the host it was made on: make a new one",
        )
    signature = hmac.new(key, digestmod="sha256")
    for data in _chunks(fd, end):
        signature.update(data)
    if not hmac.compare_digest(signature.digest(), os.pread(fd, _SIGNATURE, end)):
        raise UsageError(
            f"the plan {shown} was changed since it was written", hint="make a new plan"
        )
    return head, begin + size, end


def _chunks(fd: int, end: int = 1 << 62) -> Iterator[bytes]:
    at = 0
    while data := os.pread(fd, min(1 << 20, end - at), at):
        at += len(data)
        yield data


def _key(store: Store, *, create: bool) -> bytes:
    """This host's key.  Raises ``CannotRepairError`` where it cannot be read or made."""
    path = os.path.join(store.directory, "key")
    with writing(store.directory):
        if create:
            os.makedirs(store.directory, 0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                _make_key(path)
        try:
            with open(path, "rb") as f:
                key = f.read()
        except FileNotFoundError:
            return b""
    must_be_ours(store.directory)
    return key


def _make_key(path: str) -> None:
    aside = f"{path}.{secrets.token_hex(4)}"
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_bytes(32))
        os.fsync(fd)
        os.link(aside, path)
    finally:
        os.close(fd)
        os.unlink(aside)


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(b"permdoctor key" + key).hexdigest()[:16]
