"""Builders: facts with everything filled in that a case leaves open."""

from __future__ import annotations

from permdoctor.container.binds import Bind, SourceState
from permdoctor.container.container import Container, EngineInfo, MountKind, RequestedMount
from permdoctor.container.needs import asked_needs, environment_needs
from permdoctor.container.subject import Basis, Process, Subject
from permdoctor.diagnosis.facts import (
    BindFacts,
    EntryClass,
    Facts,
    HostUsers,
    Neighbour,
    Tree,
    Walk,
)
from permdoctor.diagnosis.report import Coverage
from permdoctor.kernel.caps import DOCKER_DEFAULT, Cap
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import INITIAL, Extent, IdMap, Kgid, Kuid, UserNs
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.mount import Mount, Superblock
from permdoctor.kernel.mountinfo import parse_mountinfo
from permdoctor.kernel.walk import Hop

ROOT_DIR = Inode(uid=Kuid(0), gid=Kgid(0), mode=0o755, type=FileType.DIRECTORY)


def remapped(first: int = 165536, count: int = 65536) -> UserNs:
    ids = IdMap((Extent(inside=0, outside=first, count=count),))
    return UserNs(inum=1, uids=ids, gids=ids, parent=INITIAL, owner=Kuid(0))


def rootless(host: int = 1000, sub: int = 100000) -> UserNs:
    ids = IdMap(
        (Extent(inside=0, outside=host, count=1), Extent(inside=1, outside=sub, count=65536))
    )
    return UserNs(inum=2, uids=ids, gids=ids, parent=INITIAL, owner=Kuid(host))


def subject(
    ids: str,
    groups: tuple[int, ...] = (),
    caps: Cap | None = None,
    ns: UserNs = INITIAL,
    comm: bytes = b"python3",
    name: str = "",
    live: bool = True,
) -> Subject:
    """``ids`` are inside ids; root gets Docker's default capabilities unless told otherwise."""
    uid, gid = (int(i) for i in ids.split(":"))
    kuid, kgid = ns.uids.outside(uid), ns.gids.outside(gid)
    assert kuid is not None
    assert kgid is not None
    if caps is None:
        caps = DOCKER_DEFAULT if uid == 0 else Cap.NONE
    return Subject(
        cred=Cred(
            fsuid=Kuid(kuid),
            fsgid=Kgid(kgid),
            groups=frozenset(Kgid(g) for g in groups),
            effective=caps,
            userns=ns,
        ),
        basis=Basis.LIVE if live else Basis.PREDICTED,
        processes=(Process(pid=100 + uid, comm=comm),) if live else (),
        inside_user=name,
        umask=0o022,
    )


def directory(owner: str, mode: int, **more: object) -> Inode:
    return inode(owner, mode, FileType.DIRECTORY, **more)


def inode(owner: str, mode: int, type_: FileType = FileType.REGULAR, **more: object) -> Inode:
    uid, gid = (int(i) for i in owner.split(":"))
    return Inode(uid=Kuid(uid), gid=Kgid(gid), mode=mode, type=type_, **more)  # type: ignore[arg-type]


def entries(*rows: tuple[str, Inode, int], parent: Inode, stopped: str = "") -> Tree:
    return Tree(
        classes=tuple(
            EntryClass(parent=parent, inode=i, count=n, samples=(name.encode(),))
            for name, i, n in rows
        ),
        coverage=Coverage(entries=sum(n for _, _, n in rows), stopped=stopped),
    )


def bind(
    target: str,
    root: Inode,
    *,
    source: str | None = "/srv/source",
    ro: bool = False,
    noexec: bool = False,
    kind: MountKind = MountKind.BIND,
    sb: Superblock | None = None,
    mountinfo: str = "",
    tree: Tree | None = None,
    parents: tuple[tuple[str, Inode], ...] = (),
    state: SourceState = SourceState.PRESENT,
    idmap_unknown: bool = False,
) -> BindFacts:
    mount = Mount(read_only=ro, noexec=noexec, sb=sb or Superblock(), idmap_unknown=idmap_unknown)
    rootfs = Mount(sb=Superblock(fstype="overlay"))
    on_the_way = dict(parents)
    hops = [Hop(path=b"/", inode=ROOT_DIR, mount=rootfs)]
    parts = target.strip("/").split("/")
    for n in range(1, len(parts)):
        path = "/" + "/".join(parts[:n])
        hops.append(Hop(path=path.encode(), inode=on_the_way.get(path, ROOT_DIR), mount=rootfs))
    hops.append(Hop(path=target.encode(), inode=root, mount=mount))
    host = None if source is None else source.encode()
    return BindFacts(
        bind=Bind(
            target=target.encode(),
            requested=RequestedMount(kind=kind, target=target.encode(), source=host, read_only=ro),
            mounted=parse_mountinfo(mountinfo.encode())[0] if mountinfo else None,
            mount=mount,
            host_path=host,
            source_state=state,
        ),
        walk=Walk(path=target.encode(), hops=tuple(hops)),
        tree=tree,
    )


def place(path: str, *dirs: tuple[str, Inode], missing: str = "") -> Walk:
    """A path of the image: the directories on it, and the component that does not exist."""
    rootfs = Mount(sb=Superblock(fstype="overlay"))
    hops = [Hop(path=b"/", inode=ROOT_DIR, mount=rootfs)]
    hops += [Hop(path=p.encode(), inode=i, mount=rootfs) for p, i in dirs]
    return Walk(path=path.encode(), hops=tuple(hops), missing=missing.encode() or None)


def container(name: str = "trainer", **more: object) -> Container:
    engine = more.pop("engine", EngineInfo(endpoint="unix:///var/run/docker.sock"))
    more.setdefault("pid", 100)
    return Container(engine=engine, id="0" * 64, name=name, **more)  # type: ignore[arg-type]


def host_user(uid: int, name: str, gid: int | None = None) -> Subject:
    return Subject(
        cred=Cred(fsuid=Kuid(uid), fsgid=Kgid(uid if gid is None else gid)),
        basis=Basis.PREDICTED,
        host_user=name,
        umask=0o022,
    )


def neighbour(who: str, cred_of: Subject, path: str = "/srv/source", rw: bool = True) -> Neighbour:
    return Neighbour(who=who, cred_of=cred_of, rw=rw, host_path=path.encode())


def facts(
    subjects: tuple[Subject, ...] | Subject,
    *binds: BindFacts,
    of: Container | None = None,
    places: tuple[Walk, ...] = (),
    needs: tuple[tuple[str, str], ...] = (),
    home: str | None = None,
    **more: object,
) -> Facts:
    from permdoctor.container.needs import Need

    of = of or container()
    asked = asked_needs(of, (), [(p.encode(), Need(n)) for p, n in needs])
    env = environment_needs(of, None if home is None else home.encode())
    users = more.pop("users", HostUsers(users=((0, "root"),)))
    return Facts(
        container=of,
        basis=Basis.LIVE if of.running else Basis.PREDICTED,
        subjects=subjects if isinstance(subjects, tuple) else (subjects,),
        binds=binds,
        places=places,
        needs=(*asked, *env),
        users=users,  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )
