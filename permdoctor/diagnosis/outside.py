"""What DAC cannot tell: network and FUSE filesystems, security modules, unreadable id maps.

Never a confident yes where somebody else has the last word; never a chown where it is not ours.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.container.needs import PathNeed
from permdoctor.container.subject import Subject
from permdoctor.diagnosis.facts import BindFacts, Facts
from permdoctor.diagnosis.judge import Judgement, judge
from permdoctor.diagnosis.report import Finding, Remedy, Severity
from permdoctor.diagnosis.shell import quote
from permdoctor.kernel.caps import Cap
from permdoctor.kernel.filesystems import PSEUDO, SERVER_DECIDES, is_fuse
from permdoctor.kernel.ids import OVERFLOW_ID, Kgid, Kuid
from permdoctor.kernel.text import printable

CONTAINER_TYPES = ("container_file_t", "svirt_sandbox_file_t", "container_ro_file_t")


class Outside(Struct, frozen=True, kw_only=True):
    """Findings, and the subjects for whom they replace the model's own refusal."""

    findings: tuple[Finding, ...] = ()
    decided: frozenset[int] = frozenset()


def outside_the_model(
    facts: Facts, bind: BindFacts, need: PathNeed, judgements: tuple[tuple[int, Judgement], ...]
) -> Outside:
    """Which subjects the model cannot speak for, and what to say instead."""
    fstype = bind.bind.fstype
    if fstype in PSEUDO:
        return Outside(findings=(_own_rules(bind),))
    findings: list[Finding] = list(_selinux(facts, bind, judgements))
    decided: set[int] = set()
    for i, j in judgements:
        subject = facts.subjects[i]
        if is_fuse(fstype) and _fuse_shut(bind, subject):
            findings.append(_fuse_finding(bind, i, subject))
            decided.add(i)
        elif fstype in SERVER_DECIDES and j.allowed:
            squashed = _squashed(facts, bind, need, subject)
            refused = squashed is not None and not squashed.allowed
            findings.append(_server(facts, bind, i, subject, squashed if refused else None))
            decided.add(i)
        elif is_fuse(fstype) and j.allowed and not _checks_modes(bind):
            findings.append(_server(facts, bind, i, subject, None))
    return Outside(findings=tuple(findings), decided=frozenset(decided))


def _own_rules(bind: BindFacts) -> Finding:
    """proc, sysfs, cgroup and their like check by themselves."""
    target = bind.bind.target
    return Finding(
        code="PD307",
        severity=Severity.INFO,
        title=f"{printable(target)}: {bind.bind.fstype} has rules of its own, nothing is predicted",
        target=target,
        path=target,
        host_path=bind.bind.host_path,
    )


def _squashed(facts: Facts, bind: BindFacts, need: PathNeed, subject: Subject) -> Judgement | None:
    """The same question as root_squash would put it; ``None`` for anybody but root."""
    if subject.cred.fsuid != 0 or bind.walk is None:
        return None
    nobody = replace(
        subject.cred,
        fsuid=Kuid(OVERFLOW_ID),
        fsgid=Kgid(OVERFLOW_ID),
        groups=frozenset(),
        effective=Cap.NONE,
    )
    return judge(nobody, bind.walk.hops[-1:], need.need, facts.sysctls)


def _server(
    facts: Facts, bind: BindFacts, index: int, subject: Subject, squashed: Judgement | None
) -> Finding:
    target, fstype = bind.bind.target, bind.bind.fstype
    likely = squashed is not None
    container = facts.container
    by_pid = container.engine.product == "process"
    name = f"--pid {container.pid}" if by_pid else quote(container.name)
    remedies = [
        Remedy(
            name="probe",
            title="Ask the kernel, and with it the server",
            commands=(f"permdoctor check {name} --probe",),
            why="asked as the container's user, without changing anything",
        )
    ]
    inode = bind.walk.object.inode if bind.walk and bind.walk.object else None
    if likely and inode is not None and inode.uid:
        ns = subject.cred.userns
        uid, gid = ns.uid(inode.uid), ns.gid(inode.gid)
        if uid:
            ids = f"{uid}:{uid if gid is None else gid}"
            remedies.insert(
                0,
                Remedy(
                    name="run-as-owner",
                    title=f"Run as the owner: user {ids}",
                    commands=(f"docker run --user {ids} ...", f'user: "{ids}"   # in compose.yaml'),
                    where="container",
                    why="the server knows this uid; root it may turn into nobody (root_squash)",
                ),
            )
    return Finding(
        code="PD210" if likely else "PD307",
        severity=Severity.WARNING if likely else Severity.INFO,
        title=(
            f"{subject.label} is likely refused on {printable(target)} ({fstype})"
            if likely
            else f"{printable(target)}: mode bits allow {subject.label}, {fstype} has the last word"
        ),
        target=target,
        path=target,
        host_path=bind.bind.host_path,
        subject=index,
        verdict=squashed.verdict if squashed is not None else None,
        detail=(
            "the server decides; with root_squash it takes root for nobody, and the capabilities "
            "of the container mean nothing to it"
            if likely
            else "the server or daemon behind this filesystem may refuse what the mode bits allow",
        ),
        remedies=tuple(remedies) if likely else tuple(remedies[-1:]),
    )


def _options(bind: BindFacts) -> frozenset[bytes]:
    return frozenset() if bind.bind.mounted is None else frozenset(bind.bind.mounted.super_options)


def _checks_modes(bind: BindFacts) -> bool:
    """Whether a FUSE mount has the kernel check modes (``default_permissions``)."""
    return b"default_permissions" in _options(bind)


def _fuse_shut(bind: BindFacts, subject: Subject) -> bool:
    """``fuse_permissible_uidgid``: without allow_other only the mounter's uid *and* gid come in."""
    options = _options(bind)
    if not options or b"allow_other" in options:
        return False
    cred = subject.cred
    pairs = ((b"user_id=", cred.fsuid), (b"group_id=", cred.fsgid))
    for key, own in pairs:
        number = next((o[len(key) :] for o in options if o.startswith(key)), b"")
        if number.isdigit() and int(number) != own:
            return True
    return False


def _fuse_finding(bind: BindFacts, index: int, subject: Subject) -> Finding:
    target = bind.bind.target
    return Finding(
        code="PD117",
        severity=Severity.ERROR,
        title=f"{subject.label} is shut out of {printable(target)}: FUSE without allow_other",
        target=target,
        path=target,
        host_path=bind.bind.host_path,
        subject=index,
        detail=(
            "without allow_other the kernel lets only the user in who mounted it; root, too, and "
            "every capability, stays outside",
        ),
        remedies=(
            Remedy(
                name="fuse-allow-other",
                title="Mount it with allow_other and default_permissions",
                commands=(
                    "... -o allow_other,default_permissions   # user_allow_other in"
                    " /etc/fuse.conf for an ordinary user",
                ),
                why="default_permissions keeps the mode bits in force",
            ),
        ),
    )


def _selinux(
    facts: Facts, bind: BindFacts, judgements: tuple[tuple[int, Judgement], ...]
) -> Iterator[Finding]:
    """C17: enforcing, a confined process, and a label that is no container's."""
    if not facts.selinux.enforcing:
        return
    target = bind.bind.target
    label = next((v for t, v in facts.selinux.labels if t == target), "")
    if not label or _type(label) in CONTAINER_TYPES:
        return
    for i, j in judgements:
        subject = facts.subjects[i]
        if not j.allowed or _type(subject.attr) not in ("container_t", "svirt_lxc_net_t"):
            continue
        source = bind.bind.requested.source if bind.bind.requested is not None else None
        shown = quote(source or b"SOURCE")
        yield Finding(
            code="PD211",
            severity=Severity.WARNING,
            title=f"{printable(target)}: mode bits allow, SELinux is likely to refuse",
            target=target,
            path=target,
            host_path=bind.bind.host_path,
            subject=i,
            detail=(
                f"the process is {printable(subject.attr)}, the mount {printable(label)}; SELinux "
                "is enforcing and lets containers at container_file_t only",
            ),
            remedies=(
                Remedy(
                    name="selinux-relabel",
                    title="Have the engine label the mount for containers: z",
                    commands=(f"docker run -v {shown}:{quote(target)}:z ...",),
                    where="container",
                    why="chown and chmod do not touch labels",
                    why_not="relabels the source for good; :Z, or z on /home or /etc,"
                    " breaks the host's own services",
                ),
            ),
        )
        return


def _type(label: str) -> str:
    parts = label.split(":")
    return parts[2] if len(parts) > 2 else ""
