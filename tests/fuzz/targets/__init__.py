"""Who is fed: every parser of something that another one wrote."""

from __future__ import annotations

from tests.fuzz.run import Target
from tests.fuzz.targets import (
    accounts,
    daemon,
    engines,
    files,
    http,
    journals,
    outbox,
    proc,
    xattrs,
)

_MODULES = (engines, http, proc, accounts, xattrs, files, journals, outbox, daemon)

TARGETS: dict[str, Target] = {t.name: t for module in _MODULES for t in module.TARGETS}
