"""A container that did not start: the engine's State.Error, and what its command lies on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from permdoctor.container.binds import covering
from permdoctor.diagnosis.facts import Facts
from permdoctor.diagnosis.report import Finding, Remedy, Severity
from permdoctor.diagnosis.shell import path_argument
from permdoctor.kernel.text import printable

_KNOWN: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"(unable to find user|no matching entries in passwd file)"),
        "the user is named, and the image's passwd has no such name",
        "use a number: docker run --user UID:GID ...",
    ),
    (
        re.compile(r"no matching entries in group file|unable to find group"),
        "the group is named, and the image's group file has no such name",
        "use a number: docker run --group-add GID ...",
    ),
    (
        re.compile(
            r"(cannot set uid to unmapped user|setgroups: invalid argument|"
            r"cannot set gid to unmapped)"
        ),
        "the id lies outside the container's user namespace",
        "use an id below the size of the range in /etc/subuid, or widen the range",
    ),
    (
        re.compile(r"bind source path does not exist|error while mounting volume.*no such file"),
        "--mount and a volume's device do not create a missing source",
        "create it, owned by the user of the container: install -d -o UID -g GID SOURCE",
    ),
    (
        re.compile(r"exec: .*permission denied|exec format error"),
        "the command is not executable for this user, or lies on a noexec mount",
        "permdoctor explain CONTAINER COMMAND --want execute",
    ),
    (
        re.compile(r"(mount|mkdir|openat2?|stat|chdir).*permission denied"),
        "the runtime itself was refused while it built the mounts: under a user namespace it "
        "needs search permission on every directory above a source",
        "setfacl -m u:UID:x on the directory named, or move the source",
    ),
    (
        re.compile(r"read-only file system"),
        "a mountpoint had to be created below a read-only mount",
        "create the directory in the read-only source first",
    ),
)


_OURS = re.compile(r"permission denied|operation not permitted|not a directory")


def is_refusal(error: str) -> bool:
    """Whether State.Error is about users, permissions or mounts, and not about a program that is
    not there, or a port that is taken.
    """
    return bool(_OURS.search(error)) or any(k[0].search(error) for k in _KNOWN)


def start_findings(facts: Facts) -> Iterator[Finding]:
    """PD115 for State.Error, PD112 for a command on a noexec mount."""
    container = facts.container
    if container.error and not container.running:
        known = next((k for k in _KNOWN if k[0].search(container.error)), None)
        detail: tuple[str, ...] = (f"the engine says: {printable(container.error)}",)
        remedies: tuple[Remedy, ...] = ()
        if known is not None:
            detail = (known[1], *detail)
            remedies = (Remedy(name="start-hint", title=known[2], commands=(), where="container"),)
        yield Finding(
            code="PD115",
            severity=Severity.ERROR,
            title="the engine could not start it",
            target=None,
            path=b"",
            detail=detail,
            remedies=remedies,
        )
    yield from _noexec_command(facts)


def _noexec_command(facts: Facts) -> Iterator[Finding]:
    command = facts.container.command[:1]
    if not command or not command[0].startswith("/"):
        return
    path = command[0].encode("utf-8", "surrogateescape")
    bind = covering(tuple(b.bind for b in facts.binds), path)
    if bind is None or not bind.mount.noexec:
        return
    yield Finding(
        code="PD112",
        severity=Severity.ERROR,
        title=f"{printable(path)} lies on a noexec mount and cannot be started",
        target=bind.target,
        path=path,
        host_path=bind.host_path,
        detail=("noexec refuses execve to everybody, root too, whatever the mode bits say",),
        remedies=(
            Remedy(
                name="mount-exec",
                title="Keep programs in the image, or mount this filesystem without noexec",
                commands=(f"findmnt -T {path_argument(bind.host_path or bind.target)} -o OPTIONS",),
            ),
        ),
    )
