"""``demo``: the most common fault there is, on a container made for it, diagnosed as any other.

Needs no engine.  Applies nothing: it shows the explanation and the plan.
"""

from __future__ import annotations

import os

from msgspec.structs import replace

from permdoctor import __version__
from permdoctor.app.collect import Collector, Options
from permdoctor.app.sandbox import TARGET, sandbox
from permdoctor.container.container import MountKind, RequestedMount
from permdoctor.diagnosis.diagnose import diagnose
from permdoctor.diagnosis.report import CheckResult, Skipped
from permdoctor.engines.process import container_of_process


def demo() -> CheckResult:
    """Build, diagnose, clean up.  Raises ``CannotCheckError`` with what is missing."""
    with sandbox() as box, Collector(Options(probe=os.getuid() == 0)) as collector:
        mount = RequestedMount(kind=MountKind.BIND, target=TARGET, source=box.model)
        container = replace(
            container_of_process(box.pid),
            name="permdoctor-demo",
            mounts=(mount,),
            env=(("HOME", ""),),
        )
        report = diagnose(collector.facts(None, container))
        if box.note:
            note = Skipped(what="the demo", reason=box.note)
            report = replace(report, skipped=(*report.skipped, note))
    return CheckResult(reports=(report,), host=os.uname().nodename, version=__version__)
