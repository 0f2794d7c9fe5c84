"""Who is fed: every parser of something that another one wrote."""

from __future__ import annotations

from tests.fuzz.run import Target
from tests.fuzz.targets import accounts, engines, files, http, journals, proc, xattrs

_MODULES = (engines, http, proc, accounts, xattrs, files, journals)

TARGETS: dict[str, Target] = {t.name: t for module in _MODULES for t in module.TARGETS}
