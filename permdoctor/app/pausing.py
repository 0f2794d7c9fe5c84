"""Who uses a tree, and standing still while it is repaired.

What closes the last race of a repair is that nobody writes: every running container that mounts the
tree writable is paused, and resumed whatever happens.  Who mounts it is what mountinfo of its first
process says (device and root within the filesystem), not what its configuration calls it: the same
tree has other names through symlinks, volumes and bind mounts.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeVar

from msgspec import Struct, field

from permdoctor.container.container import Container, State
from permdoctor.diagnosis.report import Skipped
from permdoctor.engines import Engine
from permdoctor.engines.process import cgroup_container_id
from permdoctor.errors import PermdoctorError
from permdoctor.host import machine, procfs
from permdoctor.kernel.mountinfo import MountInfo, governing, is_beneath
from permdoctor.kernel.text import printable
from permdoctor.repair.journal import Journal, PausedContainer
from permdoctor.repair.options import CannotRepairError

T = TypeVar("T")

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class User(Struct, frozen=True, kw_only=True):
    """A running container that mounts one of the trees; ``writes``: one of them writable."""

    engine: Engine
    container: Container
    writes: bool
    ours: bool = False
    """Whether we run in it ourselves."""

    @property
    def must_pause(self) -> bool:
        """A paused one is not touched: somebody else wants it so."""
        return self.writes and not self.ours and self.container.state is State.RUNNING

    @property
    def name(self) -> str:
        return self.container.name


def users_of(engines: Sequence[Engine], roots: Sequence[bytes]) -> tuple[User, ...]:
    """The containers of all engines that mount one of these trees, or a part or more of one.

    Raises ``CannotCheckError`` where an engine does not answer.
    """
    ours = machine.host_mountinfo()
    places = [p for r in roots if (p := _place(ours, r)) is not None]
    within = cgroup_container_id(machine.read_text("/proc/self/cgroup"))
    return tuple(u for e in engines for u in _of_engine(e, roots, places, within))


class _Place(Struct, frozen=True):
    """A directory by its device and the path within its filesystem."""

    device: tuple[int, int]
    root: bytes


def _place(mounts: tuple[MountInfo, ...], path: bytes) -> _Place | None:
    mount = governing(mounts, path)
    if mount is None:
        return None
    rest = path[len(mount.mountpoint.rstrip(b"/")) :].strip(b"/")
    root = mount.root.rstrip(b"/") + (b"/" + rest if rest else b"") or b"/"
    return _Place((mount.major, mount.minor), root)


def _of_engine(
    engine: Engine, roots: Sequence[bytes], places: list[_Place], within: str
) -> Iterator[User]:
    configured = {
        s.id: any(not m.read_only for m in s.mounts) for s in engine.containers_using(roots)
    }
    for summary in engine.list():
        try:
            container = engine.inspect(summary.id)
        except PermdoctorError:
            continue  # it is gone
        if not container.running or container.pid is None:
            continue
        found = configured.get(container.id)
        try:
            really = _mounts_writable(procfs.read_mountinfo(container.pid), places)
        except PermdoctorError:
            really = found
        if found is not None or really is not None:
            yield User(
                engine=engine,
                container=container,
                writes=bool(found) or bool(really),
                ours=bool(within) and within == container.id,
            )


def _mounts_writable(mounts: tuple[MountInfo, ...], places: list[_Place]) -> bool | None:
    """``None``: it mounts none of them."""
    found = [
        not m.read_only
        for m in mounts
        for p in places
        if (m.major, m.minor) == p.device
        and (is_beneath(p.root, m.root) or is_beneath(m.root, p.root))
    ]
    return any(found) if found else None


class Standstill(Struct, kw_only=True):
    """Who was paused and goes on, who could not be resumed, and the signal that ended it (0: none
    did).  Filled in as it happens.
    """

    resumed: list[str] = field(default_factory=list)
    stuck: list[Skipped] = field(default_factory=list)
    signal: int = 0

    def interrupt(self, number: int, _frame: object) -> NoReturn:
        """A handler: every ending is like Ctrl-C."""
        self.signal = number
        raise KeyboardInterrupt


def while_paused(
    journal: Journal, users: Sequence[User], still: Standstill, body: Callable[[], T]
) -> T:
    """``body()`` while these containers stand still.

    They are named in the journal first: should we be killed, the next command resumes them.
    SIGINT, SIGTERM and SIGHUP reach ``body`` as ``KeyboardInterrupt``, and wait while containers
    are switched.
    Raises ``CannotRepairError`` where one cannot be paused; then the others go on.
    """
    paused: list[User] = []
    handlers = {s: signal.signal(s, still.interrupt) for s in _ENDINGS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    try:
        try:
            if users:
                journal.pausing(tuple(_named(u) for u in users))
            for user in users:
                _pause(user, paused)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return body()
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        for user in paused:
            resume(user.engine, user.container.id, user.name, still)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def resume(engine: Engine, id_: str, name: str, still: Standstill) -> None:
    """Never raises: the next one waits."""
    try:
        if engine.unpause(id_):
            still.resumed.append(name)
    except PermdoctorError as e:
        still.stuck.append(
            Skipped(what=printable(name), reason=e.message, hint=f"docker unpause {id_[:12]}")
        )


def _pause(user: User, paused: list[User]) -> None:
    """``paused`` first: an engine that answers too late may have done it."""
    paused.append(user)
    try:
        if not user.engine.pause(user.container.id):
            paused.remove(user)  # somebody else was quicker, or it ended
    except PermdoctorError as e:
        raise CannotRepairError(
            f"container {printable(user.name)} cannot be paused: {e.message}",
            hint="stop it, or repair with --live",
        ) from e


def _named(user: User) -> PausedContainer:
    c = user.container
    return PausedContainer(engine=c.engine.endpoint, id=c.id, name=c.name)
