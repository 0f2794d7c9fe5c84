"""Facts in a few words, for the report of a disagreement."""

from __future__ import annotations

from permdoctor.kernel.acl import Acl, Tag
from permdoctor.kernel.caps import ALL, DOCKER_DEFAULT, names
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import IdMap, UserNs
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.verdict import Step
from permdoctor.kernel.walk import Hop
from tests.differential.subjects import Subject

_SHORT = {
    Tag.USER_OBJ: "u:",
    Tag.USER: "u:",
    Tag.GROUP_OBJ: "g:",
    Tag.GROUP: "g:",
    Tag.MASK: "m:",
    Tag.OTHER: "o:",
}


def describe(fact: object) -> str:
    match fact:
        case Inode():
            return _inode(fact)
        case Subject():
            ruid, euid, *_ = fact.credentials
            return f"{_cred(fact.cred)} (ruid {fact.ruid}; inside: ruid {ruid}, euid {euid})"
        case Cred():
            return _cred(fact)
        case Mount():
            return _mount(fact)
        case Acl():
            return _acl(fact)
        case Hop():
            link = f" -> {fact.link!r}{' (last)' * fact.trailing}" if fact.link else ""
            return f"{fact.path!r}{link}  {_inode(fact.inode)}"
        case Step():
            return (
                f"{fact.rule} {fact.outcome} {fact.about} want={fact.want} has={fact.has}"
                f" mask={fact.mask} id={fact.id} cap={fact.cap!r} {fact.why}"
            )
    return repr(fact)


def _inode(inode: Inode) -> str:
    words = [inode.type.name, f"{inode.mode:04o}", f"{inode.uid}:{inode.gid}"]
    words += [f"acl {_acl(inode.acl)}"] * (inode.acl is not None)
    words += [f"default {_acl(inode.default_acl)}"] * (inode.default_acl is not None)
    words += ["immutable"] * inode.immutable + ["append-only"] * inode.append_only
    return " ".join(words)


def _acl(acl: Acl | None) -> str:
    if acl is None:
        return "none"
    named = (Tag.USER, Tag.GROUP)
    return ",".join(
        f"{_SHORT[e.tag]}{e.id if e.tag in named else ''}:{e.perm}" for e in acl.entries
    )


def _cred(cred: Cred) -> str:
    caps = {ALL: "all", DOCKER_DEFAULT: "docker"}.get(cred.effective)
    caps = caps or ",".join(names(cred.effective)) or "none"
    groups = ",".join(map(str, sorted(cred.groups)))
    return f"{cred.fsuid}:{cred.fsgid} groups {groups or '-'} caps {caps} in {_userns(cred.userns)}"


def _userns(ns: UserNs) -> str:
    if ns.is_initial:
        return "initial userns"
    outer = "" if ns.parent is None or ns.parent.is_initial else f" in {_userns(ns.parent)}"
    return f"userns(owner {ns.owner}, uid {_map(ns.uids)}, gid {_map(ns.gids)}{outer})"


def _map(map_: IdMap) -> str:
    return "+".join(f"{e.inside}>{e.outside}x{e.count}" for e in map_.extents)


def _mount(mount: Mount) -> str:
    flags = ("read_only", "noexec", "nosuid", "nodev")
    words = [f for f in flags if getattr(mount, f)]
    if mount.idmap is not None:
        words.append(f"idmap(uid {_map(mount.idmap.uids)}, gid {_map(mount.idmap.gids)})")
    sb = "ro " * mount.sb.read_only + "noacl " * (not mount.sb.acls) + mount.sb.fstype
    return f"{' '.join(words) or 'plain'} of {sb} in {_userns(mount.sb.userns)}"
