"""How a run on several workers (pytest-xdist, ``make test``) shares out the tests: by the file.

A file stays together, so what its module makes is made once; so do the folders of ``TOGETHER``.
What takes long goes first: no worker is left with a minute of it when the others have ended.
Each worker is a session of its own: its own lab, its own engines, started where they are used.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

TOGETHER = ("tests/differential/", "tests/systemd/")
"""The first sets ``fs.protected_*``, which the machine has once; the second boots one systemd."""

LONGEST = (
    "tests/repair/crash/test_crash.py",
    "tests/test_install.py",
    "tests/acceptance/test_fix.py",
    "tests/differential/",
    "tests/daemon/test_serve.py",
    "tests/acceptance/test_serve.py",
    "tests/host/test_scan.py",
    "tests/systemd/",
    "tests/test_lint.py",
    "tests/acceptance/test_who_and_where.py",
    "tests/repair/attack/test_attack.py",
    "tests/repair/test_hostile.py",
    "tests/engines/test_identity.py",
    "tests/repair/test_faults.py",
    "tests/acceptance/test_docker.py",
    "tests/daemon/test_drift.py",
    "tests/cli/test_engine.py",
    "tests/daemon/test_reconciler_world.py",
    "tests/daemon/test_ends.py",
    "tests/test_readme.py",
)
"""Ten seconds and more; the others follow in the order of collection."""


def unit(nodeid: str) -> str:
    """The file or folder that goes to one worker as a whole."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def rank(nodeid: str) -> int:
    """The place of its unit in the queue."""
    name = unit(nodeid)
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


class ByFile(LoadFileScheduling):
    """Hands out the units as they are collected: the workers have sorted theirs by ``rank``."""

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
