"""What comes from outside, cut to size: nothing that a container names may fill the memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from msgspec.structs import replace

from permdoctor.alerts.alert import Problem
from permdoctor.alerts.document import TOO_LONG
from permdoctor.daemon.events import ContainerRef, Found, Seen
from permdoctor.daemon.limits import Limits
from permdoctor.diagnosis.unfixable import OPT_OUT
from permdoctor.kernel.text import printable

_ID = 128
_NAME = 255
_PATH = 4096


def fits(ref: ContainerRef, limits: Limits) -> bool:
    """Whether this can be a container at all: an id and an endpoint are never cut."""
    return 0 < len(ref.id) <= _ID and 0 < len(ref.engine) <= limits.text


def part_of(ref: ContainerRef) -> float:
    """At least 0 and less than 1, always the same for one container and hardly ever for two: what
    was done for many at once is not done at once again.
    """
    return zlib.crc32(ref.id.encode("utf-8", "surrogatepass")) / 2**32


def name_of(seen: Seen) -> str:
    """Printable; of a container without a name the beginning of its id."""
    return printable(seen.name[:_NAME])[:_NAME] or printable(seen.ref.id[:12])


def labels_of(seen: Seen, limits: Limits) -> tuple[tuple[str, str], ...]:
    """The first ones; that which forbids repairs is never left out."""
    size = limits.text
    first = seen.labels[: limits.labels]
    rest = seen.labels[limits.labels :]
    kept = (*first, *(item for item in rest if item[0] == OPT_OUT))
    return tuple((key[:size], value[:size]) for key, value in kept[: limits.labels + 1])


def found_of(found: Iterable[Found], limits: Limits) -> tuple[Found, ...]:
    """The worst, in their order otherwise."""
    worst = sorted(found, key=lambda f: -f.severity)[: limits.findings]
    return tuple(_cut(f, limits) for f in worst)


def roots_of(roots: Iterable[bytes], limits: Limits) -> tuple[bytes, ...]:
    """Each once; what is no absolute path cannot be watched."""
    fit = (r for r in roots if r.startswith(b"/") and len(r) <= _PATH)
    return tuple(dict.fromkeys(fit))[: limits.roots_each]


def _cut(found: Found, limits: Limits) -> Found:
    size, lines = limits.text, limits.lines
    problem = found.problem
    return replace(
        found,
        problem=replace(problem, code=problem.code[:16], target=problem.target[:_PATH]),
        title=found.title[:size],
        who=found.who[:size],
        detail=tuple(line[:size] for line in found.detail[:lines]),
        remedies=tuple(_command(line) for line in found.remedies[:lines]),
        fixable=tuple(name[:size] for name in found.fixable[:lines]),
        host_path=found.host_path[:_PATH],
    )


def _command(line: str) -> str:
    """Whole or not at all: a part of it may be another command."""
    return line if len(line) <= _PATH else TOO_LONG


def problem_of(found: Found, host: str, engine: str, container: str) -> Problem:
    """Whose it is the reconciler knows best: a container may have been renamed meanwhile."""
    problem = found.problem
    return Problem(
        host=host, engine=engine, container=container, code=problem.code, target=problem.target
    )
