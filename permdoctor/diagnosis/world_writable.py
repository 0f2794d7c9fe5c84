"""What every user of the host may change: found, and closed without shutting anybody out who lives
on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from permdoctor.container.container import MountKind
from permdoctor.diagnosis.facts import BindFacts, EntryClass, Facts
from permdoctor.diagnosis.parties import parties_of
from permdoctor.diagnosis.recipes import CloseOthers, Scope, is_open
from permdoctor.diagnosis.report import Finding, Remedy, Severity
from permdoctor.diagnosis.shell import path_argument
from permdoctor.diagnosis.system import is_system, narrow_mount
from permdoctor.kernel.filesystems import SERVER_DECIDES
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.text import printable

_JUDGED = 256
"""Of so many kinds of entries, the most frequent, it is asked who lives on them."""


def world_writable(facts: Facts, bind: BindFacts, root: Inode) -> Iterator[Finding]:
    """C14: anybody on the host may change it.  A sticky directory (/tmp) is meant so."""
    if bind.bind.kind is not MountKind.BIND:
        return
    below = [c for c in bind.tree.classes if is_open(c.inode)] if bind.tree else []
    count = sum(c.count for c in below) + is_open(root)
    if not count:
        return
    target, host = bind.bind.target, bind.bind.host_path
    what = "it" if is_open(root) else "entries below it"
    yield Finding(
        code="PD204",
        severity=Severity.WARNING,
        title=f"{printable(target)}: {what} can be written by every user of the host",
        target=target,
        path=target,
        host_path=host,
        count=count,
        samples=tuple(s for c in below for s in c.samples)[:3],
        detail=(f"mode {root.mode:04o}" if is_open(root) else "mode o+w below the root",),
        remedies=_closing(facts, bind, root, below),
    )


def _closing(
    facts: Facts, bind: BindFacts, root: Inode, below: list[EntryClass]
) -> tuple[Remedy, ...]:
    """Take write away from others, after giving it to those who live on it."""
    host = bind.bind.host_path
    if host is None:
        return ()
    if is_system(host, facts.container.engine.data_root):
        return (narrow_mount(host, bind.bind.target),)
    scope = Scope.ALL if below else Scope.ROOT
    recipe = CloseOthers(name="chmod-others", scope=scope, parties=parties_of(facts, host))
    kinds = dict.fromkeys((root, *(c.inode for c in below[:_JUDGED])))
    inodes = [i for i in kinds if is_open(i)]
    if not any(recipe.change(None, i) for i in inodes):
        return ()
    place = path_argument(host)
    open_ones = f"find {place} -xdev \\( -type f -o -type d ! -perm -1000 \\) -perm -0002 -exec"
    dependants = dict.fromkeys(p.cred.fsuid for i in inodes for p in recipe.dependants(i))
    commands = []
    for uid in dependants:
        entry = f"setfacl -m u:{uid}:rwX"
        commands.append(f"{open_ones} {entry} {{}} +" if below else f"{entry} {place}")
    commands.append(f"{open_ones} chmod o-w {{}} +" if below else f"chmod o-w {place}")
    return (
        Remedy(
            name=recipe.name,
            title="Take write away from others"
            + ("; give it first to the one who needs it" if dependants else ""),
            commands=tuple(commands),
            recipes=(recipe,) if is_ours(bind) else (),
        ),
    )


def is_ours(bind: BindFacts) -> bool:
    """Whether host ids are what the filesystem stores, and nobody else decides."""
    mount = bind.bind.mount
    idmapped = mount.idmap is not None or mount.idmap_unknown
    return not idmapped and mount.sb.fstype not in SERVER_DECIDES
