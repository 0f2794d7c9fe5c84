"""What is worth knowing about the check itself: predictions, coverage, a probe that disagrees."""

from __future__ import annotations

from collections.abc import Iterator

from permdoctor.container.container import Container, State
from permdoctor.container.subject import Basis
from permdoctor.diagnosis.facts import Facts
from permdoctor.diagnosis.report import Finding, Severity
from permdoctor.kernel.ids import OVERFLOW_ID
from permdoctor.kernel.inode import FileType, Inode
from permdoctor.kernel.text import printable


def disagreements(facts: Facts) -> Iterator[Finding]:
    """Where the kernel said otherwise than we did: never hidden."""
    for p in facts.probes:
        if p.agrees is not False:
            continue
        who = facts.subjects[p.subject].label
        yield Finding(
            code="PD213",
            severity=Severity.WARNING,
            title=f"{printable(p.target)}: {p.want} as {who}: predicted {p.predicted}, "
            f"the kernel says {p.observed}",
            target=p.target,
            path=p.target,
            subject=p.subject,
            detail=(p.note,) if p.note else (),
        )


def notes(facts: Facts, findings: list[Finding]) -> Iterator[Finding]:
    """Worth knowing about the check itself."""
    container = facts.container
    if facts.basis is Basis.PREDICTED and facts.subjects:
        s = facts.subjects[0]
        yield _note(
            "PD304",
            f"it does not run: {s.label} is predicted from its configuration",
            (_state(container), "an entrypoint may still change the user when it runs"),
        )
    refused = {f.subject for f in findings if f.severity is Severity.ERROR}
    for i, s in enumerate(facts.subjects):
        if i in refused and s.cred.fsuid == OVERFLOW_ID:
            yield _note(
                "PD303",
                f"the process's uid {OVERFLOW_ID} is nobody, a real id",
                ("it is also what an unmapped id is shown as; here it is the process's own",),
                subject=i,
            )
    for b in facts.binds:
        target = b.bind.target
        if b.tree is not None and b.tree.coverage.stopped:
            cover = b.tree.coverage
            yield _note(
                "PD305",
                f"{printable(target)}: {cover.entries:,} entries judged, {cover.stopped}",
                ("--deep judges all of them",),
                target,
            )
        if b.bind.mount.noexec and b.tree is not None:
            programs = [c for c in b.tree.classes if _is_program(c.inode)]
            if programs:
                yield _note(
                    "PD306",
                    f"{printable(target)}: mounted noexec, programs below it will not start",
                    (f"such as {printable(programs[0].samples[0])}",),
                    target,
                )


def _is_program(inode: Inode) -> bool:
    return inode.type is FileType.REGULAR and inode.any_x


def _note(
    code: str,
    title: str,
    detail: tuple[str, ...] = (),
    target: bytes | None = None,
    subject: int | None = None,
) -> Finding:
    return Finding(
        code=code,
        severity=Severity.INFO,
        title=title,
        target=target,
        path=target or b"",
        subject=subject,
        detail=detail,
    )


def _state(container: Container) -> str:
    if container.state is State.EXITED and container.exit_code is not None:
        again = f", restarted {container.restart_count} times" if container.restart_count else ""
        return f"exited with status {container.exit_code}{again}"
    return container.state.value
