"""What is needed of a path, and who said so."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Need(StrEnum):
    """``own`` includes write and adds chmod/chown (as initdb does); ``none`` silences a path."""

    NONE = "none"
    READ = "read"
    WRITE = "write"
    OWN = "own"


class NeedSource(StrEnum):
    """Who asked.  In this order the later one wins."""

    DEFAULT = "default"
    HOME = "home"
    ENVIRONMENT = "environment"
    CONFIG = "config"
    LABEL = "label"
    OPTION = "option"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathNeed:
    """``path`` is absolute inside the container.  ``via`` names the variable, label or option."""

    path: bytes
    need: Need
    source: NeedSource
    via: str = ""
