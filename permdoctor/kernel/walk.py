"""The path walk: search permission on every directory, and the rules for following symlinks.

Mirrors ``link_path_walk``, ``may_lookup`` and ``may_follow_link`` (``fs/namei.c``).  The hops are
facts that somebody read before (``host/view.py``); here it is only decided whether these
credentials would have come through.

Past twenty links Linux may say ELOOP where this says EACCES: a link that ``may_follow_link``
refuses makes it walk once more from the start, and it goes on counting.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from permdoctor.kernel.cred import Cred
from permdoctor.kernel.inode import S_ISVTX, FileType, Inode
from permdoctor.kernel.mount import Mount
from permdoctor.kernel.permission import is_owner, permission
from permdoctor.kernel.sysctls import Sysctls
from permdoctor.kernel.verdict import Errno, Outcome, Rule, Step, Verdict, Want

MAXSYMLINKS = 40


class Hop(Struct, frozen=True, kw_only=True):
    """One component that a walk came to.

    ``path`` is where it is, from the container's root, symlinks before it resolved.  ``link`` is
    a symlink's body (``None``: not a symlink, or not followed).  ``trailing`` is set for a
    symlink that is the last component of the path then being walked: only such links are
    subject to ``protected_symlinks``.  ``mount_root`` is set where something is mounted here: such
    a place cannot be removed (EBUSY).
    """

    path: bytes
    inode: Inode
    mount: Mount
    link: bytes | None = None
    trailing: bool = False
    mount_root: bool = False


def walk(cred: Cred, hops: Sequence[Hop], sysctls: Sysctls) -> Verdict:
    """Whether the credentials reach the last hop.  The last hop itself is not asked for access.

    Each step's ``about`` is the index of its hop, as a number in text.
    """
    steps: list[Step] = []
    links = 0
    directory: Hop | None = None
    for i, hop in enumerate(hops):
        if hop.link is not None:
            links += 1
            refused = _follow(cred, hop, directory, links, sysctls, str(i), steps)
            if refused is not None:
                return Verdict(errno=refused, steps=tuple(steps))
            continue
        if i == len(hops) - 1:
            break
        if hop.inode.type is not FileType.DIRECTORY:
            steps.append(Step(rule=Rule.WRONG_TYPE, outcome=Outcome.REFUSES, about=str(i)))
            return Verdict(errno=Errno.ENOTDIR, steps=tuple(steps))
        search = permission(cred, hop.inode, hop.mount, Want.X, about=str(i))
        steps.extend(search.steps)
        if not search.allowed:
            return Verdict(errno=search.errno, steps=tuple(steps))
        directory = hop
    return Verdict(errno=None, steps=tuple(steps))


def _follow(
    cred: Cred,
    link: Hop,
    directory: Hop | None,
    links: int,
    sysctls: Sysctls,
    about: str,
    steps: list[Step],
) -> Errno | None:
    """``pick_link`` and ``may_follow_link``; no capability helps against either."""
    if links > MAXSYMLINKS:
        steps.append(Step(rule=Rule.TOO_MANY_LINKS, outcome=Outcome.REFUSES, about=about))
        return Errno.ELOOP
    if not (link.trailing and sysctls.protected_symlinks and directory is not None):
        return None
    sticky_and_open = S_ISVTX | 0o002
    if (
        is_owner(cred, link.inode)
        or directory.inode.mode & sticky_and_open != sticky_and_open
        or (directory.inode.uid is not None and directory.inode.uid == link.inode.uid)
    ):
        return None
    steps.append(
        Step(
            rule=Rule.PROTECTED_SYMLINKS,
            outcome=Outcome.REFUSES,
            about=about,
            id=link.inode.uid,
        )
    )
    return Errno.EACCES
