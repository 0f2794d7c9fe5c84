"""Texts of /proc.  The kernel writes them, but names in them are the container's, and what is read
while a process dies is cut off.
"""

from __future__ import annotations

from typing import get_type_hints

from permdoctor.container.binds import mounts_of
from permdoctor.container.inspect import requested_mounts
from permdoctor.host.process import parse_cgroups
from permdoctor.kernel.ids import IdMap
from permdoctor.kernel.mountinfo import MountInfo, governing, host_paths, parse_mountinfo
from permdoctor.kernel.procstatus import ProcStatus, parse_id_map, parse_status
from tests.fuzz.mutate import bytes_of
from tests.fuzz.oracle import ID, fits, must
from tests.fuzz.run import Target, simple
from tests.fuzz.samples import recorded

HOST = parse_mountinfo(recorded("host-mountinfo"))
ASKED = requested_mounts(
    [{"Type": "bind", "Source": "/srv/data", "Destination": "/app/model", "RW": False}],
    {"Tmpfs": {"/run": "ro"}, "Devices": [{"PathOnHost": "/dev/null"}]},
)
MOST_GOVERNED = 200
"""Of more mounts not each is looked for: that is no longer parsing."""


def mountinfo(data: bytes) -> None:
    mounts = parse_mountinfo(data)
    fits(mounts, tuple[MountInfo, ...])
    must(len(mounts) <= data.count(b"\n") + 1, "more mounts than lines")
    for m in mounts:
        must(m.id >= 0 and m.parent >= 0, "a negative id")
        must(m.major >= 0 and m.minor >= 0, "a negative device")
    for m in mounts[:8]:
        _ = m.deleted, m.read_only, m.sb_read_only, m.idmapped
        on = governing(mounts, m.mountpoint)
        must(on is None or on in mounts, "governed by a mount that is not there")
        fits(host_paths(m, HOST, b"x"), tuple[bytes, ...])
    for target, _asked, mounted in mounts_of(ASKED, mounts[:MOST_GOVERNED]):
        must(isinstance(target, bytes), "a target that is no path")
        must(mounted is None or mounted in mounts, "a mount that is not there")


def status(data: bytes) -> None:
    found = parse_status(data)
    fits(found, ProcStatus)
    for name in ("ruid", "fsuid", "fsgid"):
        must(getattr(found, name) in ID, f"{name} {getattr(found, name)}")
    must(all(g in ID for g in found.groups), "a group that is no id")
    must(found.umask is None or 0 <= found.umask <= 0o7777, f"umask {found.umask}")
    must(found.ppid >= 0 and all(p >= 0 for p in found.nspid), "a negative pid")
    must(found.state.isprintable(), f"state {found.state!r}")


def id_map(data: bytes) -> None:
    found = parse_id_map(data)
    fits(found, IdMap)
    for e in found.extents:
        must(e.inside in ID and e.outside in ID and e.count in ID, f"an id that is none: {e}")
        must(e.inside + e.count <= len(ID) >= e.outside + e.count, f"more than all ids: {e}")
    for n in (0, 1, 65534, 2**32 - 2):
        outside = found.outside(n)
        must(outside is None or outside in ID, f"{n} is {outside} outside")


def cgroups(data: bytes) -> None:
    fits(parse_cgroups(data), get_type_hints(parse_cgroups)["return"])


STATUS = (recorded("status"), recorded("status").replace(b"Umask:\t0022\n", b""))
MAPS = (
    b"         0          0 4294967295\n",
    b"         0     165536      65536\n",
    b"         0     200000       1000\n      1000     300000      64536\n",
)

TARGETS = (
    Target(
        name="mountinfo",
        make=bytes_of(
            (
                recorded("mountinfo"),
                recorded("host-mountinfo"),
                *recorded("mountinfo").split(b"\n"),
            ),
            (b" - ", b"\\040", b"\\", b"//deleted", b" / / ", b"0:0", b",", b"idmapped", b" "),
        ),
        open=simple(mountinfo),
        errors=(),
    ),
    Target(
        name="status",
        make=bytes_of(STATUS, (b"Uid:", b"Groups:\t", b"CapEff:", b"\\n", b"\\\\", b":", b"\t")),
        open=simple(status),
        errors=(ValueError,),
    ),
    Target(
        name="id-map",
        make=bytes_of(MAPS, (b" ", b"4294967295", b"0 0 1\n")),
        open=simple(id_map),
        errors=(ValueError,),
    ),
    Target(
        name="cgroup",
        make=bytes_of((recorded("cgroup"),), (b":", b"0::/")),
        open=simple(cgroups),
        errors=(),
    ),
)
