"""Plan files: whoever has not this host's key cannot make one."""

from __future__ import annotations

import hmac
import time
from pathlib import Path

import msgspec
import pytest

from permdoctor.diagnosis.plan import Job
from permdoctor.diagnosis.recipes import Scope, ToOwner
from permdoctor.errors import UsageError
from permdoctor.repair import carried
from permdoctor.repair.options import Asked
from permdoctor.repair.store import Store
from permdoctor.repair.survey import survey
from tests.lab.lab import Lab
from tests.repair.crash import work

TO = ToOwner(name="to", scope=Scope.ALL, uid=7777, gid=7777)


@pytest.mark.parametrize("key", [b"", b"another host's"], ids=["none", "another"])
@pytest.mark.parametrize("made", [False, True], ids=["before-the-first-key", "beside-a-key"])
def test_a_plan_of_somebody_elses(key: bytes, made: bool, lab: Lab) -> None:
    base = lab.fs("tmpfs")
    (base / "tree").mkdir()
    time.sleep(0.06)
    roots = (bytes(base / "tree"),)
    with Store.scratch(work.about("repair", roots)) as journal:
        jobs = (Job(path=roots[0], recipes=(TO,)),)
        summary = survey(journal, jobs, work.LIMITS, Asked())
        head = carried.Head(
            key=carried._fingerprint(key), about=journal.about, summary=summary, asked=Asked()
        )
        encoded = msgspec.msgpack.encode(head)
        data = carried.MAGIC + carried._LENGTH.pack(len(encoded)) + encoded
        data += Path(journal.plan).read_bytes()
        if made:
            carried.save(journal, str(base / "ours"), Store(str(base / "state")), summary)
    forged = base / "forged"
    forged.write_bytes(data + hmac.new(key, data, "sha256").digest())
    forged.chmod(0o600)
    with pytest.raises(UsageError, match="another host"):
        carried.peek(str(forged), Store(str(base / "state")))
