"""The facts of a container that does not run: from its configuration, its image and its sources.

Everything here is a prediction and the report says so: who it will be comes from USER, group_add
and the image's own passwd and group, the id map from the engine's mode and /etc/subuid.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from msgspec.structs import replace

from permdoctor.app.live import source_facts
from permdoctor.container.binds import Bind, covering
from permdoctor.container.container import Container, MountKind
from permdoctor.container.predicted import predicted_home, predicted_subject
from permdoctor.container.subject import Basis, Subject
from permdoctor.container.userns import SubIds, parse_subids, predicted_userns
from permdoctor.container.users import parse_passwd
from permdoctor.diagnosis.facts import BindFacts, Facts, Walk
from permdoctor.engines import ContainerGoneError, Engine
from permdoctor.engines.archive import ImageInode
from permdoctor.errors import PermdoctorError
from permdoctor.host import look, machine, procfs
from permdoctor.host.look import Where
from permdoctor.host.subjects import named_by_host
from permdoctor.kernel.ids import INITIAL, Kgid, Kuid
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mount import Mount, Superblock
from permdoctor.kernel.text import printable
from permdoctor.kernel.walk import MAXSYMLINKS, Hop

if TYPE_CHECKING:
    from permdoctor.app.collect import Collector

_FILE_LIMIT = 1 << 20


def predict(collector: Collector, engine: Engine, container: Container) -> Facts:
    """Raises ``CannotCheckError`` if the container is removed meanwhile."""
    image = _Image(collector, engine, container, may_ask=_sources_exist(collector, container))
    passwd, group = image.file(b"/etc/passwd"), image.file(b"/etc/group")
    subjects, home = _who(collector, container, passwd, group)
    image.ns = subjects[0].cred.userns if subjects else INITIAL
    binds: list[BindFacts] = []
    for requested in sorted(container.mounts, key=lambda r: r.target):
        parents = image.parents(requested.target, tuple(binds))
        binds.append(source_facts(collector, requested, requested.target, subjects, parents))
    needs = collector.needs(container, home)
    found = tuple(binds)
    places: tuple[Walk, ...] = ()
    if image.may_ask:
        places = collector.places(needs, found, lambda path: image.walk(path, found))
    return Facts(
        container=container,
        basis=Basis.PREDICTED,
        subjects=subjects,
        binds=found,
        needs=needs,
        places=places,
        sysctls=procfs.read_sysctls(),
    )


def _sources_exist(collector: Collector, container: Container) -> bool:
    """Whether the archive API may be asked: for a container that does not run the engine sets its
    mounts up first, and so *makes* every bind source that is missing, as root:root 0755.
    """
    for requested in container.mounts:
        if requested.kind is not MountKind.BIND or requested.source is None:
            continue
        if collector.or_quiet(look.identity, Where(), requested.source) is None:
            collector.skip(
                "the image's users and directories",
                f"asking the engine for them would create {printable(requested.source)}",
                "create it, then check again",
            )
            return False
    return True


def _who(
    collector: Collector, container: Container, passwd: bytes | None, group: bytes | None
) -> tuple[tuple[Subject, ...], bytes | None]:
    """The predicted subject; none, with the reason skipped, where it could not even start."""
    try:
        subids = _subids(collector, container)
        ns = predicted_userns(container.engine, container.userns_mode, subids)
        subject = predicted_subject(container, passwd, group, ns)
        return (named_by_host(subject),), predicted_home(container, passwd, group)
    except PermdoctorError as e:
        collector.skip("who it would run as", e.message, e.hint or "")
        return (), None


def _subids(collector: Collector, container: Container) -> SubIds:
    """The daemon's own subuid and subgid: its /etc need not be ours."""
    engine = container.engine

    def etc(name: bytes) -> bytes:
        daemon = Where(pid=engine.pid)
        text = None
        if engine.pid is not None:
            text = collector.or_quiet(look.read_file, daemon, b"/etc/" + name, _FILE_LIMIT)
        return machine.read_text(f"/etc/{name.decode()}") if text is None else text

    name, gid = "", None
    if engine.rootless_uid is not None:
        account = next(
            (e for e in parse_passwd(etc(b"passwd")) if e.uid == engine.rootless_uid), None
        )
        name = "" if account is None else account.name.decode("utf-8", "replace")
        gid = None if account is None else account.gid
    return SubIds(
        uids=parse_subids(etc(b"subuid")), gids=parse_subids(etc(b"subgid")), name=name, gid=gid
    )


class _Image:
    """Paths of a container that does not run: the archive API where no mount covers them."""

    def __init__(
        self, collector: Collector, engine: Engine, container: Container, *, may_ask: bool
    ) -> None:
        self._collector = collector
        self._engine, self._container = engine, container
        self._rootfs = Mount(read_only=container.read_only_rootfs, sb=Superblock(fstype="overlay"))
        self.may_ask = may_ask
        self.ns = INITIAL
        self._known: dict[bytes, tuple[Inode, bytes] | None] = {}

    def file(self, path: bytes) -> bytes | None:
        """The beginning of a file of the image; ``None``: no such, or not to be asked."""
        if not self.may_ask:
            return None
        try:
            return self._engine.image_file(self._container, path, _FILE_LIMIT)
        except ContainerGoneError:
            raise
        except PermdoctorError as e:
            self._collector.skip(f"{printable(path)} of the image", e.message, e.hint or "")
            return None

    def parents(self, target: bytes, binds: tuple[BindFacts, ...]) -> tuple[Hop, ...]:
        """The directories above a mountpoint.  The engine makes missing ones, root's 0755."""
        return self.walk(posixpath.dirname(target), binds).hops if self.may_ask else ()

    def walk(self, path: bytes, binds: tuple[BindFacts, ...]) -> Walk:
        """The hops to a path, symlinks of the image followed."""
        hops: list[Hop] = []
        todo = [c for c in reversed(path.split(b"/")) if c not in (b"", b".")]
        at = b"/"
        links = 0
        hops.append(self._hop(at, binds))
        while todo:
            name = todo.pop()
            below = posixpath.normpath(at.rstrip(b"/") + b"/" + name)
            found = self._look(below, binds)
            if found is None:
                return Walk(path=path, hops=tuple(hops), missing=below, beyond=bool(todo))
            hop, target = found
            if target is None:
                hops.append(hop)
                at = below
                continue
            links += 1
            if links > MAXSYMLINKS:
                return Walk(path=path, hops=tuple(hops), missing=below, beyond=bool(todo))
            if target.startswith(b"/"):
                at = b"/"
                hops.append(self._hop(at, binds))
            todo.extend(c for c in reversed(target.split(b"/")) if c not in (b"", b"."))
        return Walk(path=path, hops=tuple(hops))

    def _look(self, path: bytes, binds: tuple[BindFacts, ...]) -> tuple[Hop, bytes | None] | None:
        """What is at a path: a hop, and the body if it is a symlink."""
        for b in binds:
            if b.bind.target == path and b.walk is not None and b.walk.object is not None:
                return b.walk.object, None
        bind = covering(tuple(b.bind for b in binds), path)
        if bind is not None:
            return self._below(bind, path)
        if path not in self._known:
            inode = self._image_inode(path)
            self._known[path] = (
                None
                if inode is None
                else (inode.to_inode(self._container.engine, self.ns), inode.target)
            )
        known = self._known[path]
        if known is None:
            return None
        link = known[1] if known[0].type is FileType.SYMLINK else None
        return Hop(path=path, inode=known[0], mount=self._rootfs), link

    def _image_inode(self, path: bytes) -> ImageInode | None:
        """``None`` also where the engine does not tell who owns it."""
        try:
            return self._engine.image_inode(self._container, path)
        except ContainerGoneError:
            raise
        except PermdoctorError as e:
            if not any(s.reason == e.message for s in self._collector.skipped):
                self._collector.skip("the image's directories", e.message, e.hint or "")
            return None

    def _below(self, bind: Bind, path: bytes) -> tuple[Hop, bytes | None] | None:
        """Below a mount: what is at the same place below its source, on the host."""
        if bind.host_path is None:
            return None
        place = bind.host_path.rstrip(b"/") + path[len(bind.target.rstrip(b"/")) :]
        walk = self._collector.or_quiet(look.walk, Where(), place, False)
        if walk is None or walk.object is None:
            return None
        hop = replace(walk.object, path=path, mount=bind.mount)
        return hop, hop.link

    def _hop(self, path: bytes, binds: tuple[BindFacts, ...]) -> Hop:
        found = self._look(path, binds)
        if found is not None:
            return found[0]
        inode = Inode(uid=Kuid(0), gid=Kgid(0), mode=0o755, type=FileType.DIRECTORY)
        return Hop(path=path, inode=inode, mount=self._rootfs)
