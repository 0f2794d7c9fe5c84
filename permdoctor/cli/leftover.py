"""What an earlier command left behind when it was killed, told by the next one.

Costs one look into a directory that is nearly always empty or not there.  Root's business only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from permdoctor.cli.output import fail
from permdoctor.errors import PermdoctorError

if TYPE_CHECKING:
    from permdoctor.config import Config

ACTIVE = "active"
"""Of the journals' directory; ``repair/journal.py`` says what lies there."""


def tell_interrupted(config: Config | None = None) -> None:
    """Resume what an interrupted repair left paused, and say so.  Never stops the command."""
    if os.geteuid() != 0:
        return
    try:
        state = (config or _configured()).repair.state
        if not os.listdir(os.path.join(state, ACTIVE)):
            return
        from permdoctor.app.interrupted import take_care

        for told in take_care(state):
            fail(told.message, told.hint)
    except OSError:
        return
    except PermdoctorError as e:
        fail(e.message, e.hint)


def _configured() -> Config:
    from permdoctor.config import load

    return load(None, os.environ)
