"""One round: build the cells, ask the model, let the executor do it, compare, clear away."""

from __future__ import annotations

import marshal
import os
from dataclasses import dataclass, field
from random import Random

from permdoctor.kernel.ids import Kgid, Kuid
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.sysctls import Sysctls
from tests.differential import cases, ids, scene, spaces, subjects, syscalls
from tests.differential.cases import Case, Cell, World
from tests.differential.compare import Disagreement, Tally, result_differs, verdict_differs
from tests.differential.scene import Builder, Filesystem, Pools, View
from tests.differential.spaces import MapForMounts, Space
from tests.differential.subjects import Subject
from tests.differential.walks import Tree

CELLS = 70
"""Cells of a round; a cell takes up to nine cases."""


@dataclass(slots=True)
class Surroundings:
    """What several rounds share: filesystems, namespaces, id maps.  Drawn anew for each epoch."""

    filesystems: dict[str, Filesystem]
    spaces: list[Space]
    maps: list[MapForMounts]
    owned: list[Filesystem]
    """tmpfs mounts that belong to the user namespaces of ``spaces``."""
    permitted: int


@dataclass(slots=True)
class Asked:
    """A case of this round with everything to describe it."""

    case: Case
    subject: Subject
    cell: Cell | None


@dataclass(slots=True)
class Round:
    """``where`` names it for repetition."""

    where: str
    rng: Random
    around: Surroundings
    kind: str
    sysctls: Sysctls
    asked: list[Asked] = field(default_factory=list)

    def run(self) -> Tally:
        rng, around = self.rng, self.around
        space = around.spaces[0] if rng.random() < 0.25 else rng.choice(around.spaces)
        fs = around.filesystems[self.kind]
        if self.kind == "tmpfs" and rng.random() < 0.4:
            fs = rng.choice(around.owned)
        sb = scene.draw_superblock(rng, fs)
        near = scene.draw_view(rng, fs, sb, around.maps)
        far = scene.draw_view(rng, fs, sb, around.maps)
        try:
            return self._run(space, fs, near, far)
        finally:
            os.close(near.fd)
            os.close(far.fd)

    def _run(self, space: Space, fs: Filesystem, near: View, far: View) -> Tally:
        rng = self.rng
        inside_uids, inside_gids = ids.mapped(space.uids), ids.mapped(space.gids)
        uids = rng.sample(inside_uids, min(4, len(inside_uids)))
        gids = rng.sample(inside_gids, min(5, len(inside_gids)))
        who = [subjects.draw(rng, space, uids, gids, self.around.permitted) for _ in range(12)]
        pools = scene.draw_pools(
            rng,
            fs,
            near,
            [h for u in uids if (h := ids.outside(space.uids, u)) is not None],
            [h for g in gids if (h := ids.outside(space.gids, g)) is not None],
        )
        world = World(
            rng=rng,
            mount=near.model,
            far_mount=far.model,
            sysctls=self.sysctls,
            uids=_arguments(rng, uids, space.uids, near.map.uids if near.map else None),
            gids=_arguments(rng, gids, space.gids, near.map.gids if near.map else None),
            uid_map=space.uids,
            gid_map=space.gids,
        )
        builder = Builder(fs)
        places: list[Place] = []
        for number in range(CELLS):
            place: Place
            if rng.random() < 0.12:
                place = WalkPlace(number, pools, near, world)
            else:
                place = CellPlace(number, pools, near, far, world)
            places.append(place)
        with builder.at_work():
            for place in places:
                place.build(builder)
        for place in places:
            self.asked += place.ask(who, world)
        answers = self._do(space, fs, near, far)
        with builder.at_work():
            tally = self._compare(answers, world, near)
            for place in places:
                place.demolish(builder)
        return tally

    def _do(self, space: Space, fs: Filesystem, near: View, far: View) -> list[object]:
        batch = []
        last: Subject | None = None
        for a in self.asked:
            credentials = None if a.subject is last else a.subject.credentials
            batch.append((credentials, a.case.call, a.case.args))
            last = a.subject
        with scene.superblock_as(near.model.sb, fs):
            answer = space.ask(marshal.dumps(batch), (near.fd, far.fd))
        answers: list[object] = marshal.loads(answer)
        return answers

    def _compare(self, answers: list[object], world: World, near: View) -> Tally:
        tally = Tally()
        spoilt: set[int] = set()
        for a, answer in zip(self.asked, answers, strict=True):
            if a.cell is not None and a.cell.number in spoilt:
                continue
            tally.count(a.case, self.kind)
            differs = verdict_differs(a.case, answer)
            if differs is None:
                differs = result_differs(a.case, near)
            if differs is None:
                continue
            if a.cell is not None:
                spoilt.add(a.cell.number)
            told: list[tuple[str, object]] = [("subject", a.subject)]
            if a.cell is not None:
                told += [("parent", a.cell.parent), ("object", a.cell.object)]
            told += [("mount", near.model), ("sysctls", world.sysctls)]
            tally.disagreements.append(Disagreement(self.where, a.case, tuple(told), differs))
        return tally


def _arguments(
    rng: Random, mapped: list[int], space: ids.Extents, idmap: ids.Extents | None
) -> list[int]:
    """Ids for chown and ACLs: the subjects', some that the mount can store, some at random."""
    found = mapped * 3 + rng.sample(ids.HOST, 3)
    if idmap is not None:
        storable = [ids.outside(idmap, i) for i in ids.mapped(idmap)]
        there = [ids.inside(space, s) for s in storable if s is not None]
        known = [i for i in there if i is not None]
        found += rng.sample(known, min(6, len(known)))
    return found


class CellPlace:
    """A cell on the disk, as it is stored and as the mounts show it."""

    def __init__(self, number: int, pools: Pools, near: View, far: View, world: World) -> None:
        rng = world.rng
        self.parent = scene.draw_inode(rng, pools, FileType.DIRECTORY)
        self.object = scene.draw_inode(rng, pools, rng.choice(scene.OBJECT_TYPES))
        self.other: Inode | None = None
        self.target: Inode | None = None
        show, show_far = near.show, far.show
        self.cell = Cell(number, show(self.parent), show(self.object))
        if rng.random() < 0.3:
            self.other = scene.draw_inode(rng, pools, FileType.DIRECTORY)
            self.cell.other, self.cell.far = show(self.other), show_far(self.other)
            self.cell.far_parent = show_far(self.parent)
            self.cell.far_object = show_far(self.object)
            self.cell.target_beside = rng.random() < 0.4
            if rng.random() < 0.5:
                same = rng.random() < 0.6
                type_ = self.object.type if same else rng.choice(scene.OBJECT_TYPES)
                self.target = scene.draw_inode(rng, pools, type_)
                self.cell.target = show(self.target)

    @property
    def target_path(self) -> bytes:
        cell = self.cell
        return (cell.parent_path if cell.target_beside else cell.other_path) + b"/t"

    def _inodes(self) -> list[tuple[bytes, Inode]]:
        """Parents first."""
        cell = self.cell
        found = [(cell.parent_path, self.parent), (cell.object_path, self.object)]
        if self.other is not None:
            found.append((cell.other_path, self.other))
        if self.target is not None:
            found.append((self.target_path, self.target))
        return found

    def build(self, builder: Builder) -> None:
        inodes = self._inodes()
        for path, inode in inodes:
            builder.make(path, inode)
        for path, inode in reversed(inodes):
            builder.dress(path, inode)

    def demolish(self, builder: Builder) -> None:
        for path, inode in self._inodes():
            builder.unfix(path, inode)
        builder.remove(self.cell.parent_path)
        if self.other is not None:
            builder.remove(self.cell.other_path)

    def ask(self, who: list[Subject], world: World) -> list[Asked]:
        """Cases until one changes the cell, nine at most."""
        rng, asked = world.rng, []
        draws = cases.OF_AN_OBJECT if self.other is None else cases.OF_A_PAIR
        subject = rng.choice(who)
        for _ in range(9):
            if rng.random() < 0.6:
                subject = rng.choice(who)
            case = rng.choice(draws)(self.cell, subject, world)
            asked.append(Asked(case, subject, self.cell))
            if case.changes and case.verdict.allowed:
                break
        return asked


class WalkPlace:
    """A tree of directories and links on the disk."""

    def __init__(self, number: int, pools: Pools, near: View, world: World) -> None:
        top = Inode(uid=Kuid(0), gid=Kgid(0), mode=0o755, type=FileType.DIRECTORY)
        self.tree = Tree(world.rng, number, pools, near, top)

    def build(self, builder: Builder) -> None:
        self.tree.build(builder)

    def demolish(self, builder: Builder) -> None:
        self.tree.demolish(builder)

    def ask(self, who: list[Subject], world: World) -> list[Asked]:
        asked = []
        for _ in range(12):
            subject = world.rng.choice(who)
            asked.append(Asked(self.tree.draw_case(subject, world.sysctls), subject, None))
        return asked


Place = CellPlace | WalkPlace


def draw_surroundings(
    rng: Random, filesystems: dict[str, Filesystem], directory: bytes
) -> Surroundings:
    """Namespaces, id maps, and the tmpfs of each namespace attached below ``directory``."""
    made = [spaces.initial()]
    made += [spaces.child_of_initial(rng) for _ in range(5)]
    made += [spaces.grandchild_of_initial(rng) for _ in range(2)]
    maps = [spaces.map_for_mounts(rng) for _ in range(7)]
    owned = []
    for i, space in enumerate(made):
        if space.tmpfs is None:
            continue
        path = directory + b"/owned%d" % i
        os.makedirs(path, exist_ok=True)
        syscalls.attach(space.tmpfs, path)
        owned.append(_owned(space, path))
    return Surroundings(filesystems, made, maps, owned, syscalls.permitted())


def _owned(space: Space, path: bytes) -> Filesystem:
    uid = ids.outside(space.uids, ids.mapped(space.uids)[0])
    gid = ids.outside(space.gids, ids.mapped(space.gids)[0])
    assert uid is not None
    assert gid is not None
    fs = Filesystem("tmpfs", path, space.userns, uid, gid, space.uids, space.gids)
    prepare(fs)
    return fs


def prepare(fs: Filesystem) -> None:
    """Its top directory, which everybody may search."""
    syscalls.setfsids(fs.uid, fs.gid)
    try:
        os.mkdir(fs.path + b"/" + scene.TOP, 0o755)
    finally:
        syscalls.setfsids(0, 0)


def close(around: Surroundings) -> None:
    for fs in around.owned:
        syscalls.detach(fs.path)
    for map_ in around.maps:
        map_.close()
    for space in around.spaces:
        space.close()
