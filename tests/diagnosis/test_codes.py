"""Every code of the catalogue is given by something: here those that no other test names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

import permdoctor
from permdoctor.diagnosis.codes import CODES
from permdoctor.diagnosis.diagnose import diagnose
from permdoctor.diagnosis.facts import BindFacts, Facts
from permdoctor.diagnosis.report import Finding, ProbeResult, Severity
from permdoctor.kernel.ids import Extent, IdMap
from permdoctor.kernel.mount import MountIdMap, Superblock
from permdoctor.kernel.verdict import Errno

from .build import bind, directory, entries, facts, inode, place, subject

OWN = directory("1000:1000", 0o755)
ONLY_1000 = IdMap((Extent(inside=1000, outside=1000, count=1),))
EVERY = IdMap((Extent(inside=0, outside=0, count=65536),))
NFS = "36 1 0:50 / /data rw - nfs4 server:/export rw,vers=4.2,sec=sys"


def idmapped(of: BindFacts, uids: IdMap, gids: IdMap) -> BindFacts:
    """The same bind through a mount with these id maps, its root as that mount shows it."""
    assert of.walk is not None
    mount = replace(of.bind.mount, idmap=MountIdMap(uids=uids, gids=gids))
    *before, root = of.walk.hops
    hops = (*before, replace(root, mount=mount))
    return replace(of, bind=replace(of.bind, mount=mount), walk=replace(of.walk, hops=hops))


def probed(of: Facts, *, agrees: bool | None) -> Facts:
    said = ProbeResult(
        target=b"/data", subject=0, want="write", predicted="yes", observed="EACCES", agrees=agrees
    )
    return replace(of, probes=(said,))


def only(case: Facts, code: str) -> Finding:
    found = diagnose(case).findings
    assert [f.code for f in found].count(code) == 1, [f.code for f in found]
    return next(f for f in found if f.code == code)


FITTING = facts(subject("1000:1000"), bind("/data", OWN))
PROGRAM = ("bin/run", inode("1000:1000", 0o755), 1)


@pytest.mark.parametrize(
    ("code", "case", "title"),
    [
        pytest.param(
            "PD102",
            facts(subject("1001:1001"), bind("/data", directory("1000:1000", 0o750), ro=True)),
            "1001:1001 cannot read /data",
            id="a read-only mount of somebody's private directory",
        ),
        pytest.param(
            "PD116",
            facts(subject("1000:0"), idmapped(bind("/data", OWN), EVERY, ONLY_1000)),
            "1000:0 cannot create or delete files in /data",
            id="an idmapped mount that does not cover gid 0",
        ),
        pytest.param(
            "PD213",
            probed(FITTING, agrees=False),
            "/data: write as 1000:1000: predicted yes, the kernel says EACCES",
            id="a probe that disagrees",
        ),
        pytest.param(
            "PD301",
            facts(
                subject("1000:1000"),
                home="/",
                places=(place("/.cache", missing="/.cache"),),
            ),
            "1000:1000 cannot create or delete files in /.cache",
            id="HOME is the root directory",
        ),
        pytest.param(
            "PD305",
            facts(
                subject("1000:1000"),
                bind("/data", OWN, tree=entries(PROGRAM, parent=OWN, stopped="then time was up")),
            ),
            "/data: 1 entries judged, then time was up",
            id="a scan that stopped",
        ),
        pytest.param(
            "PD306",
            facts(
                subject("1000:1000"),
                bind("/data", OWN, noexec=True, tree=entries(PROGRAM, parent=OWN)),
            ),
            "/data: mounted noexec, programs below it will not start",
            id="programs on a noexec mount",
        ),
        pytest.param(
            "PD307",
            facts(
                subject("1000:1000"),
                bind("/data", OWN, sb=Superblock(fstype="nfs4"), mountinfo=NFS),
            ),
            "/data: mode bits allow 1000:1000, nfs4 has the last word",
            id="NFS that looks well",
        ),
    ],
)
def test_code(code: str, case: Facts, title: str) -> None:
    finding = only(case, code)
    assert finding.severity == CODES[code].severity
    assert finding.title == title


def test_an_id_that_the_filesystem_cannot_store_is_eoverflow() -> None:
    case = facts(subject("1000:0"), idmapped(bind("/data", OWN), EVERY, ONLY_1000))
    verdict = only(case, "PD116").verdict
    assert verdict is not None
    assert verdict.errno is Errno.EOVERFLOW
    assert verdict.steps[-1].why == "gid"


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(FITTING, id="nothing asked"),
        pytest.param(probed(FITTING, agrees=True), id="the kernel agrees"),
        pytest.param(probed(FITTING, agrees=None), id="the kernel could not be asked"),
        pytest.param(
            facts(subject("1000:0"), idmapped(bind("/data", OWN), EVERY, EVERY)), id="all mapped"
        ),
        pytest.param(
            facts(subject("1000:1000"), bind("/data", OWN, tree=entries(PROGRAM, parent=OWN))),
            id="programs on a mount with exec, all of it read",
        ),
    ],
)
def test_silence(case: Facts) -> None:
    assert [f.code for f in diagnose(case).findings if f.code != "PD302"] == []


def test_every_code_is_given_somewhere() -> None:
    top = Path(permdoctor.__path__[0])
    given = {
        code
        for folder in ("diagnosis", "daemon")
        for file in (top / folder).rglob("*.py")
        if file.name != "codes.py"
        for code in re.findall(r'"(PD\d{3})"', file.read_text())
    }
    assert given == set(CODES)


def test_a_code_given_up_is_not_given_again() -> None:
    assert "PD212" not in CODES


def test_the_severity_is_in_the_number() -> None:
    of = {"1": Severity.ERROR, "2": Severity.WARNING, "3": Severity.INFO, "4": Severity.WARNING}
    assert all(c.severity is of[code[2]] for code, c in CODES.items())
