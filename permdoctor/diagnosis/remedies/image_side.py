"""Inside the image, where the host cannot help: the Dockerfile, a tmpfs, a volume, a variable."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from permdoctor.diagnosis.case import Case
from permdoctor.diagnosis.judge import Phase
from permdoctor.diagnosis.remedies.draft import Draft, advice, ids_of, writable_place
from permdoctor.diagnosis.report import Remedy
from permdoctor.diagnosis.shell import quote
from permdoctor.kernel.text import printable


def in_the_image(case: Case) -> Iterator[Draft]:
    """A path of the image: the host cannot help; the Dockerfile or a mount can."""
    path, ids = case.need.path, ids_of(case.subject, case.cred)
    word = quote(path)
    if case.judgement.phase is Phase.WALK:
        yield advice(
            "mount-elsewhere",
            f"Use a path the process can reach: {printable(case.at.path)} refuses the way",
            _elsewhere_commands(case),
            where="container",
            rank=10,
        )
        yield Draft(
            rank=40,
            inode=replace(case.inode, mode=case.inode.mode | 0o001),
            remedy=Remedy(
                name="dockerfile-search",
                title="Let others search that directory of the image (not list it)",
                commands=(f"RUN chmod o+x {quote(case.at.path)}",),
                where="dockerfile",
                why_not="everybody in the container may then reach what lies below it",
            ),
        )
        return
    home = case.need.via == "HOME"
    place = writable_place(case.facts, case.subject)
    if case.need.via and (place is not None or home):
        variable = "XDG_CACHE_HOME" if home else case.need.via
        directory = place + b"/cache" if place is not None else b"/tmp/cache"
        yield advice(
            "set-variable",
            f"Point {variable} at a directory that the process may write",
            (f"docker run -e {variable}={quote(directory)} ...",),
            where="container",
            rank=10 if place is not None else 30,
        )
    owner, group = ids.split(":")
    mkdir = f"install -d -o {owner} -g {group} {word}"
    parent = case.at.path
    if case.missing and parent != b"/" and b"." in path.rsplit(b"/", 1)[-1].lstrip(b"."):
        mkdir = f"chown {ids} {quote(parent)}"  # a file: it is made in what exists
    uid, kgid = case.cred.fsuid, case.cred.fsgid
    mode = case.inode.mode | (case.bits | 1) << 6
    yield Draft(
        rank=15,
        inode=None if case.missing else replace(case.inode, uid=uid, gid=kgid, mode=mode),
        remedy=Remedy(
            name="dockerfile-chown",
            title="Give the directory to the user in the image",
            commands=(f"RUN {mkdir}" if case.missing else f"RUN chown {ids} {word}",),
            where="dockerfile",
            why="it lies under no mount: nothing on the host can change it",
        ),
    )
    yield from outside_the_image(case)


def outside_the_image(case: Case) -> Iterator[Draft]:
    """Something mounted on the path itself: a tmpfs, or a directory of the host."""
    uid, kgid, word = case.cred.fsuid, case.cred.fsgid, quote(case.need.path)
    yield tmpfs(case, "tmpfs", 20)
    yield advice(
        "volume",
        "Mount a directory of the host there, if it is to be kept",
        (f"install -d -o {uid} -g {kgid} -m 0755 DIR && docker run -v DIR:{word} ...",),
        where="container",
        rank=25,
    )


def _elsewhere_commands(case: Case) -> tuple[str, ...]:
    if case.bind is None or case.bind.bind.requested is None:
        return ("docker run -e HOME=/home/app ...   # a directory the process owns",)
    source = case.bind.bind.requested.volume or case.bind.bind.requested.source or b"SOURCE"
    name = case.bind.bind.target.rsplit(b"/", 1)[-1].lstrip(b".") or b"data"
    return (
        f"docker run -v {quote(source)}:{quote(b'/' + name)} ...   "
        "# and the program's variable (HF_HOME, ...) set to it",
    )


def tmpfs(case: Case, name: str, rank: int) -> Draft:
    uid, gid = ids_of(case.subject, case.cred).split(":")
    path = case.need.path if case.bind is None else case.bind.bind.target
    return advice(
        name,
        "A tmpfs that the process owns, if it need not be kept",
        (f"docker run --tmpfs {quote(path)}:uid={uid},gid={gid},mode=0700 ...",),
        where="container",
        rank=rank,
    )
