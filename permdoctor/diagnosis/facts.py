"""Everything that was read of one container, frozen, before anything is judged.

``host/`` and ``engines/`` fill these in; ``judge.py`` is a pure function of them.  A fact that
could not be read is a ``Skipped``.
"""

from __future__ import annotations

from msgspec import Struct, field

from permdoctor.container.binds import Bind
from permdoctor.container.container import Container
from permdoctor.container.needs import PathNeed
from permdoctor.container.subject import Basis, Subject
from permdoctor.diagnosis.report import Coverage, ProbeResult, Skipped
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.walk import Hop


class Walk(Struct, frozen=True, kw_only=True):
    """A path, and what lies on it, as the container sees it.

    ``hops`` are in the order of the kernel's walk: each directory searched, each symlink
    followed, last the object itself.  ``missing`` is the component that does not exist
    (``None``: the object was reached), and ``beyond`` says whether the path goes on after it.
    ``dev`` and ``ino`` identify the object on the host.
    """

    path: bytes
    hops: tuple[Hop, ...]
    missing: bytes | None = None
    beyond: bool = False
    dev: int = 0
    ino: int = 0

    @property
    def object(self) -> Hop | None:
        """The last hop, if the walk reached the object."""
        return self.hops[-1] if self.missing is None and self.hops else None


class EntryClass(Struct, frozen=True, kw_only=True):
    """Entries of a tree that no rule can tell apart.

    ``parent`` is the inode of their directory (its facts, not its identity), ``inode`` what they
    share.  ``samples`` are up to three paths relative to the tree's root.
    """

    parent: Inode
    inode: Inode
    count: int
    samples: tuple[bytes, ...]


class Tree(Struct, frozen=True, kw_only=True):
    """What lies below a mount's root, the root itself not counted."""

    classes: tuple[EntryClass, ...]
    coverage: Coverage


class BindFacts(Struct, frozen=True, kw_only=True):
    """A bind, the walk to its root, and its tree.

    ``walk`` is ``None`` if it could not be walked at all (a filesystem that does not answer).
    ``tree`` is ``None`` for a file, device, socket, or where nothing was scanned.
    """

    bind: Bind
    walk: Walk | None
    tree: Tree | None = None


class Neighbour(Struct, frozen=True, kw_only=True):
    """Another user of the same host path: a container's subject, or a host account.

    ``rw`` says whether it mounts the path writable, ``exact`` whether this very path and not one
    above it; ``mount`` is how it sees the path.
    """

    who: str
    cred_of: Subject
    rw: bool
    host_path: bytes
    exact: bool = True
    mount: Mount = field(default_factory=Mount)


class HostUsers(Struct, frozen=True, kw_only=True):
    """Names of the host's passwd and group, by host id, and each account's groups."""

    users: tuple[tuple[int, str], ...] = ()
    groups: tuple[tuple[int, str], ...] = ()
    logins: tuple[Subject, ...] = ()


class SelinuxFacts(Struct, frozen=True, kw_only=True):
    """``enforcing``, and the process's and the mounts' labels where they could be read."""

    enforcing: bool = False
    labels: tuple[tuple[bytes, str], ...] = ()


class Facts(Struct, frozen=True, kw_only=True):
    """Everything about one container."""

    container: Container
    basis: Basis
    subjects: tuple[Subject, ...]
    binds: tuple[BindFacts, ...]
    needs: tuple[PathNeed, ...] = ()
    places: tuple[Walk, ...] = ()
    """Walks to paths under no mount that the environment points to."""
    neighbours: tuple[Neighbour, ...] = ()
    users: HostUsers = field(default_factory=HostUsers)
    sysctls: Sysctls = field(default_factory=Sysctls)
    selinux: SelinuxFacts = field(default_factory=SelinuxFacts)
    skipped: tuple[Skipped, ...] = ()
    probes: tuple[ProbeResult, ...] = ()
    partial: bool = False
    """Whether it could not be looked at through its own eyes: verdicts may miss a refusal."""
