"""passwd and group of an image, subuid and subgid of the host: whose a container would be."""

from __future__ import annotations

from permdoctor.container.container import EngineInfo
from permdoctor.container.userns import SubIdRange, SubIds, parse_subids, predicted_userns
from permdoctor.container.users import (
    ExecUser,
    GroupEntry,
    PasswdEntry,
    PredictionError,
    group_name,
    parse_group,
    parse_passwd,
    resolve_user,
    user_name,
)
from permdoctor.kernel.ids import UserNs
from tests.fuzz.mutate import bytes_of
from tests.fuzz.oracle import ID, fits, must, tellable
from tests.fuzz.run import Target, simple

PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\napp:x:1001:1001:App,,,"
    b":/home/app:/bin/sh\n",
    b"+::::::\n\npostgres:*:70:70:,:/var/lib/postgresql:/bin/sh\nbroken:x:-1:99999999999:\n",
)
GROUP = (b"root:x:0:\nusers:x:100:app,model\napp:x:1001:\n", b"docker:x:999:app\nvideo::44:\n::\n")
SUBIDS = (b"dockremap:165536:65536\nalice:100000:65536\n1000:300000:65536\n", b"#x\na:0:4294967295")
SPECS = ("", "0", "app", "1001:1001", "app:users", "nosuch", ":", "x:y:z", "-1", "\ud800", "65534")
ENGINES = (
    EngineInfo(endpoint="unix:///x", remapped_root=(165536, 165536)),
    EngineInfo(endpoint="unix:///x", rootless=True, rootless_uid=1000),
)
MODES = ("", "host", "private", "keep-id", "\x1b[31m")


def passwd(data: bytes) -> None:
    users, groups = parse_passwd(data), parse_group(data)
    fits(users, tuple[PasswdEntry, ...])
    fits(groups, tuple[GroupEntry, ...])
    must(len(users) <= data.count(b"\n") + 1, "more users than lines")
    for name in (user_name(data, 1001), group_name(data, 1001)):
        must(name.isprintable(), f"a name that is not printable: {name!r}")
    for spec in (SPECS[len(data) % len(SPECS)], "app"):
        try:
            who = resolve_user(spec, ("users", "44"), data, data)
        except PredictionError as e:
            tellable(e)
            continue
        fits(who, ExecUser)
        must(all(n in ID for n in (who.uid, who.gid)), f"an id that is none: {who}")


def subids(data: bytes) -> None:
    found = parse_subids(data)
    fits(found, tuple[SubIdRange, ...])
    for r in found:
        must(r.count > 0 and r.start >= 0 and r.start + r.count <= len(ID), f"no range: {r}")
    mode = MODES[len(data) % len(MODES)]
    for engine in ENGINES:
        try:
            userns = predicted_userns(engine, mode, SubIds(uids=found, gids=found, name="alice"))
        except PredictionError as e:
            tellable(e)
            continue
        fits(userns, UserNs)


TARGETS = (
    Target(
        name="passwd",
        make=bytes_of((*PASSWD, *GROUP), (b":", b"::", b"app", b",", b"x:1001:1001:")),
        open=simple(passwd),
        errors=(),
        seconds=1.0,  # it is parsed eight times
    ),
    Target(
        name="subids",
        make=bytes_of(SUBIDS, (b":", b"alice:", b"1000:", b"#", b"65536")),
        open=simple(subids),
        errors=(),
        seconds=0.5,  # three maps are made of it
    ),
)
