"""The head of a tar stream from ``/containers/ID/archive``: one file or directory of an image.

Works on a container that does not run.  The ids in it are those of the daemon's own namespace:
host ids under userns-remap too (Docker does not map them back), inside ids under a rootless
engine, which lives in its containers' namespace.  The content is the container's: sizes and ids
are checked, and only the first member is read.  tarfile is imported late: most checks need none.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from permdoctor.container.container import EngineInfo
from permdoctor.engines.transport import EngineError, Response
from permdoctor.kernel.ids import ID_MAX, Gid, Kgid, Kuid, Uid, UserNs
from permdoctor.kernel.inode import FileType, Inode

if TYPE_CHECKING:
    import tarfile

_MAX_HEADERS: Final = 1 << 20
_TYPES: Final = {
    b"0": FileType.REGULAR,
    b"\0": FileType.REGULAR,
    b"7": FileType.REGULAR,
    b"1": FileType.REGULAR,
    b"2": FileType.SYMLINK,
    b"3": FileType.CHARDEV,
    b"4": FileType.BLOCKDEV,
    b"5": FileType.DIRECTORY,
    b"6": FileType.FIFO,
}
"""The typeflags of ustar."""


class ImageInode(Struct, frozen=True, kw_only=True):
    """What the archive says of a path: ids of the daemon's namespace, a symlink's ``target``."""

    uid: int
    gid: int
    mode: int
    type: FileType
    size: int = 0
    target: bytes = b""

    def to_inode(self, engine: EngineInfo, userns: UserNs) -> Inode:
        """With host ids.  ``userns`` is the container's (a rootless daemon's too)."""
        if engine.rootless:
            uid, gid = userns.kuid(Uid(self.uid)), userns.kgid(Gid(self.gid))
        else:
            uid, gid = Kuid(self.uid), Kgid(self.gid)
        return Inode(uid=uid, gid=gid, mode=self.mode, type=self.type)


class _Bounded(io.RawIOBase):
    """A response as a file that ends after ``limit`` bytes, whatever the stream does."""

    def __init__(self, response: Response, limit: int) -> None:
        self._response, self._left = response, limit

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._response.read(wanted)
        self._left -= len(data)
        return data


def read_member(response: Response, limit: int) -> tuple[ImageInode, bytes]:
    """The first member, and at most ``limit`` bytes of its content if it is a regular file.

    Raises :class:`EngineError` on anything that is no sound tar stream.
    """
    import tarfile

    stream = _Bounded(response, limit + _MAX_HEADERS)
    try:
        # A stream ("r|"): never seeks, reads no further than asked for.
        with tarfile.open(fileobj=stream, mode="r|", bufsize=512, errors="surrogateescape") as tar:
            member = tar.next()
            if member is None:
                raise EngineError("the engine's archive is empty")
            content = b""
            if member.isreg() and member.size > 0:
                file = tar.extractfile(member)
                content = file.read(min(limit, member.size)) if file is not None else b""
            return _inode(member), content
    except (tarfile.TarError, ValueError, OverflowError, OSError, RecursionError) as e:
        raise EngineError(f"the engine's archive cannot be read: {type(e).__name__}") from e


def _inode(member: tarfile.TarInfo) -> ImageInode:
    kind = _TYPES.get(member.type)
    ids_valid = 0 <= member.uid <= ID_MAX and 0 <= member.gid <= ID_MAX
    if kind is None or not ids_valid or member.size < 0:
        raise ValueError("odd member")
    return ImageInode(
        uid=member.uid,
        gid=member.gid,
        mode=member.mode & 0o7777,
        type=kind,
        size=member.size,
        target=member.linkname.encode("utf-8", "surrogateescape"),
    )
