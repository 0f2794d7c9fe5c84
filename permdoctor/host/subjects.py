"""Whose credentials a container holds: its live processes, grouped by credential set.

Names are for showing: those inside come from ``/etc/passwd`` and ``/etc/group`` as the processes
themselves would read them, those of the host from the host's accounts.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from permdoctor.container.subject import Basis, Process, Subject
from permdoctor.diagnosis.report import Skipped
from permdoctor.errors import CannotCheckError
from permdoctor.host.accounts import group_name, user_name
from permdoctor.host.process import Proc, ProcessGone
from permdoctor.host.procfs import userns_of
from permdoctor.host.view import View
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import UserNs
from permdoctor.kernel.procstatus import ProcStatus
from permdoctor.kernel.text import printable

_NAMES_LIMIT = 1 << 20


class _Live(Struct, frozen=True, kw_only=True):
    """One process as it was read."""

    pid: int
    start: int
    ppid: int
    cred: Cred
    status: ProcStatus
    attr: str


MOST_SUBJECTS = 64
"""Credential sets of one container that are judged; a hostile one makes as many as it likes."""


def subjects_of(
    pids: Iterable[int], exec_pids: Iterable[int] = (), *, names: bool = True
) -> tuple[tuple[Subject, ...], tuple[Skipped, ...]]:
    """One Subject for each distinct credential set among the processes, all of them named.

    Processes that are gone, zombies and kernel threads are left out silently; one whose
    credentials may not be read is a ``Skipped``.  ``exec_pids`` are the first processes of
    ``docker exec`` sessions: they and what descends from them are marked.  With ``names`` it asks
    the host for names, and reads the container's own passwd and group: both may block.
    """
    skipped: list[Skipped] = []
    live: list[_Live] = []
    known: dict[Cred, Cred] = {}
    left_out = 0
    namespaces: dict[int, UserNs] = {}
    for pid in sorted(set(pids)):
        try:
            found = _read(pid, namespaces)
        except ProcessGone:
            continue
        except CannotCheckError as e:
            skipped.append(Skipped(what=f"process {pid}", reason=e.message, hint=e.hint or ""))
            continue
        if found is None:
            continue
        if found.cred not in known and len(known) >= MOST_SUBJECTS:
            left_out += 1
            continue
        cred = known.setdefault(found.cred, found.cred)  # one copy of equal group lists
        live.append(replace(found, cred=cred, status=replace(found.status, groups=cred.groups)))
    execs = _descendants(live, set(exec_pids))
    groups: dict[Cred, list[_Live]] = {}
    for process in live:
        groups.setdefault(process.cred, []).append(process)
    if left_out:
        reason = f"more than {MOST_SUBJECTS} different credentials in one container"
        skipped.append(Skipped(what=f"{left_out:,} processes", reason=reason))
    subjects = [_subject(cred, members, execs) for cred, members in groups.items()]
    if names:
        subjects = [_named(named_by_host(s), skipped) for s in subjects]
    return tuple(subjects), tuple(dict.fromkeys(skipped))


def _read(pid: int, namespaces: dict[int, UserNs]) -> _Live | None:
    with Proc(pid) as proc:
        if not proc.stat.has_credentials:
            return None
        status = proc.status()
        return _Live(
            pid=pid,
            start=proc.start,
            ppid=status.ppid,
            cred=Cred(
                fsuid=status.fsuid,
                fsgid=status.fsgid,
                groups=status.groups,
                effective=status.effective,
                userns=_userns(proc, namespaces),
            ),
            status=status,
            attr=proc.attr(),
        )


def _userns(proc: Proc, namespaces: dict[int, UserNs]) -> UserNs:
    """Each namespace is read once."""
    try:
        inum = proc.ns_inum("user")
    except ProcessGone:
        raise
    except CannotCheckError:
        return userns_of(proc)
    if inum not in namespaces:
        namespaces[inum] = userns_of(proc)
    return namespaces[inum]


def _descendants(live: list[_Live], roots: set[int]) -> set[int]:
    found = set(roots)
    while True:
        more = {p.pid for p in live if p.ppid in found} - found
        if not more:
            return found
        found |= more


def _subject(cred: Cred, members: list[_Live], execs: set[int]) -> Subject:
    first = members[0].status
    return Subject(
        cred=cred,
        basis=Basis.LIVE,
        processes=tuple(
            Process(
                pid=p.pid,
                comm=p.status.comm,
                inside_pid=p.status.nspid[-1] if p.status.nspid else None,
                start=p.start,
                umask=p.status.umask,
                via_exec=p.pid in execs,
            )
            for p in members
        ),
        umask=first.umask,
        attr=members[0].attr,
        seccomp=first.seccomp == 2,
    )


def named_by_host(subject: Subject) -> Subject:
    """With the names that its ids have on the host."""
    cred = subject.cred
    return replace(subject, host_user=user_name(cred.fsuid), host_group=group_name(cred.fsgid))


def _named(subject: Subject, skipped: list[Skipped]) -> Subject:
    """With the names of its ids inside, from the view of the first process that still lives."""
    for process in subject.processes:
        try:
            with View.of_process(process.pid, process.start) as view:
                users = _names(view, b"/etc/passwd")
                groups = _names(view, b"/etc/group")
        except ProcessGone:
            continue
        except CannotCheckError as e:
            skipped.append(
                Skipped(what="the container's user names", reason=e.message, hint=e.hint or "")
            )
            break
        uid, gid = subject.uid, subject.gid
        return replace(
            subject,
            inside_user="" if uid is None else users.get(uid, ""),
            inside_group="" if gid is None else groups.get(gid, ""),
        )
    return subject


def _names(view: View, path: bytes) -> dict[int, str]:
    """number -> name of a passwd or group file; empty if there is no such regular file.

    The first line for a number counts, as in getpwuid(3).
    """
    try:
        text = view.read_file(path, _NAMES_LIMIT)
    except ProcessGone:
        raise
    except CannotCheckError:
        return {}
    found: dict[int, str] = {}
    for line in text.splitlines():
        fields = line.split(b":")
        if len(fields) >= 3 and fields[0] and fields[2].isdigit() and len(fields[2]) <= 10:
            found.setdefault(int(fields[2]), printable(fields[0][:256]))
    return found
