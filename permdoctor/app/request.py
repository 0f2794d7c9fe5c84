"""What ``fix`` is asked for, and the line that would apply what is shown."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, field

from permdoctor.config import Config
from permdoctor.diagnosis.shell import quote
from permdoctor.repair.journal import Unasked
from permdoctor.repair.options import Asked


class FixRequest(Struct, frozen=True, kw_only=True):
    """What to repair.  One of ``name`` (a container), ``path`` and ``plan`` (a file) is given.

    ``path`` goes with ``to``, host ids (``None``: that one stays), or with ``beneficiary``, a
    container.  ``options`` are words to be repeated in the line that applies the plan.  ``unasked``
    is why the service asks, where no person does.
    """

    name: str | None = None
    mounts: tuple[bytes, ...] = ()
    remedy: str | None = None
    path: bytes | None = None
    to: tuple[int | None, int | None] | None = None
    beneficiary: str | None = None
    plan: str | None = None
    plan_out: str | None = None
    apply: bool = False
    live: bool = False
    allow: tuple[bytes, ...] = ()
    asked: Asked = field(default_factory=Asked)
    hosts: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    unasked: Unasked | None = None
    config: Config = field(default_factory=Config)

    @property
    def container(self) -> str | None:
        return self.name or self.beneficiary


def command(request: FixRequest, allow: Sequence[bytes]) -> str:
    """The line that applies the plan that is shown."""
    words: list[bytes | str] = []
    if request.plan_out is not None:
        words += ["--plan", request.plan_out]
    elif request.plan is not None:
        words += ["--plan", request.plan]
    elif request.name is not None:
        words.append(request.name)
        for mount in request.mounts:
            words += ["--mount", mount]
        words += ["--remedy", request.remedy] if request.remedy else []
    elif request.path is not None:
        words += ["--path", request.path]
    if request.to is not None and request.plan_out is None:
        words += ["--to", ":".join("" if i is None else str(i) for i in request.to)]
    if request.beneficiary is not None and request.plan_out is None:
        words += ["--for", request.beneficiary]
    for directory in (*request.allow, *allow):
        words += ["--allow", directory]
    words += [*request.options, "--apply"]
    return " ".join(["permdoctor fix", *(quote(w) for w in words)])
