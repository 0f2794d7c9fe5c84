"""What is done with an entry: the recipes' wish, and what stands against it; and the sums shown."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.diagnosis.plan import SAMPLES, Change, Left, Reason, TreePlan
from permdoctor.diagnosis.recipes import Recipe, ToOwner
from permdoctor.host.entries import Counters, to_inode
from permdoctor.kernel.inode import Inode
from permdoctor.kernel.mount import Mount
from permdoctor.repair.options import Asked
from permdoctor.repair.state import State, same, wanted


class Rules(Struct, frozen=True, kw_only=True):
    """What decides on an entry: recipes, the user's wishes, and the mount it is seen through."""

    recipes: tuple[Recipe, ...]
    asked: Asked
    mount: Mount

    def decide(self, parent: Inode | None, state: State) -> State | Reason | None:
        """The state that it is to have; why it is left alone although it is wrong; or neither."""
        found = to_inode(state, self.mount)
        inode = found
        for recipe in self.recipes:
            inode = recipe.change(parent, inode) or inode
        if inode == found:
            return None
        after = wanted(state, inode, self.mount)
        if same(after, state):
            return None
        return self._objection(state) or after

    def _objection(self, state: State) -> Reason | None:
        if stat.S_ISLNK(state.mode):
            return None if self.asked.symlinks else Reason.SYMLINK
        if not (stat.S_ISREG(state.mode) or state.is_dir):
            return Reason.SPECIAL
        if state.for_fsck:
            return Reason.LOST_FOUND
        if state.oversized:
            return Reason.TOO_LARGE
        if state.flags:
            return Reason.FLAGS
        if state.linked:
            return Reason.HARD_LINKS
        if state.has_set_id and not self.asked.set_id:
            return Reason.SET_ID
        if state.caps is not None and not self.asked.set_id:
            return Reason.FILE_CAPS
        return Reason.FRESH if state.unsteady else None

    @property
    def need_xattrs(self) -> bool:
        """Whether a recipe may want a change because of an ACL alone."""
        return not all(isinstance(r, ToOwner) for r in self.recipes)


class Decided(Struct, frozen=True):
    """So many entries in the state ``before``, and what is done with them."""

    before: State
    after: State | Reason
    count: int
    samples: tuple[bytes, ...]


def tree_plan(path: bytes, mount: Mount, found: list[Decided], counters: Counters) -> TreePlan:
    """Kinds that are changed alike, whatever their directory; and what is left, by reason."""
    changes: dict[tuple[State, State], Change] = {}
    left: dict[Reason, Left] = {}
    for each in found:
        before, after = each.before, each.after
        if isinstance(after, Reason):
            old = left.get(after, Left(reason=after, count=0, samples=()))
            merged = (*old.samples, *each.samples)[:SAMPLES]
            left[after] = replace(old, count=old.count + each.count, samples=merged)
            continue
        change = changes.get((before, after)) or Change(
            before=to_inode(before, mount),
            after=to_inode(after, mount),
            count=0,
            samples=(),
            drops=tuple(_drops(before, after)),
        )
        merged = tuple(sorted((*change.samples, *each.samples))[:SAMPLES])
        changes[before, after] = replace(change, count=change.count + each.count, samples=merged)
    for reason, count in (
        (Reason.UNREADABLE, counters.unreadable),
        (Reason.OTHER_MOUNT, counters.foreign_mounts),
    ):
        if count:
            left[reason] = Left(reason=reason, count=count, samples=())
    return TreePlan(
        path=path,
        entries=counters.entries + 1,
        changes=tuple(sorted(changes.values(), key=lambda c: (-c.count, c.samples))),
        left=tuple(sorted(left.values(), key=lambda x: -x.count)),
    )


def _drops(before: State, after: State) -> Iterator[str]:
    """What chown(2) takes along."""
    if before.is_dir:
        return
    for bit, name in ((stat.S_ISUID, "setuid"), (stat.S_ISGID, "setgid")):
        if before.mode & bit and not after.mode & bit:
            yield name
    if before.caps is not None and after.caps is None:
        yield "file capabilities"
