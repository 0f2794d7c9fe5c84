"""Who is fed: every parser of something that another one wrote."""

from __future__ import annotations

from tests.fuzz.run import Target
from tests.fuzz.targets import accounts, engines, http, proc, xattrs

TARGETS: dict[str, Target] = {
    t.name: t for module in (engines, http, proc, accounts, xattrs) for t in module.TARGETS
}
