"""The types of single values, each with the words for what is expected of it.

The words are the ``title`` of a type: they stand in error messages and in the JSON schema.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

SeverityName = Literal["error", "warning", "info"]

UnaskedRemedy = Literal[
    "acl-entries",
    "acl-user",
    "chmod-entries",
    "chmod-group",
    "chmod-others",
    "chmod-owner",
    "chown-directory",
    "chown-entries",
    "chown-file",
    "chown-leftovers",
    "default-acl",
    "shared-group",
]
"""Those that permdoctor can do itself: the recipes of ``diagnosis/``, which a test holds to it."""

RemedyName = Literal[UnaskedRemedy, "to-owner"]
"""Also ``fix --path --to``."""

Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Amount = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Entries = Annotated[int, Meta(ge=1, le=1_000_000_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
Interval = Annotated[float, Meta(gt=0, le=604_800)]
Period = Annotated[float, Meta(ge=1, le=604_800)]
"""Seconds after which something is done again, and again."""

Delay = Annotated[float, Meta(ge=0, le=604_800)]
Workers = Annotated[int, Meta(ge=1, le=2)]
ServiceWorkers = Annotated[int, Meta(ge=1, le=64)]

AbsolutePath = Annotated[str, Meta(pattern="^/", title="an absolute path")]
PathOrNone = Annotated[str, Meta(pattern="^(/|$)", title="an absolute path, or nothing")]
TextfileOrNone = Annotated[
    str,
    Meta(pattern=r"^(/.*\.prom|)$", title="an absolute path that ends in .prom, or nothing"),
]
SomePaths = Annotated[tuple[AbsolutePath, ...], Meta(min_length=1)]
Variable = Annotated[
    str, Meta(pattern="^([A-Za-z_][A-Za-z0-9_]*)?$", title="the name of an environment variable")
]
Name = Annotated[
    str, Meta(pattern="^[A-Za-z0-9_.-]{1,64}$", title="a name of letters, digits, _, - and .")
]
GroupName = Annotated[
    str,
    Meta(pattern="^([A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?$", title="the name or number of a group"),
]
Url = Annotated[
    str,
    Meta(
        pattern=r"^https?://(\[[0-9A-Fa-f:.]+\]|[^\s/?#@\[\]:]+)(:[0-9]{0,5})?([/?#]\S*)?$",
        title="an http or https URL without a user in it",
    ),
]
SomeUrls = Annotated[tuple[Url, ...], Meta(min_length=1)]
Listen = Annotated[
    str,
    Meta(
        pattern=r"^((\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5})?$",
        title="HOST:PORT, or nothing",
    ),
]
AddedLabel = Annotated[
    str,
    Meta(
        pattern=r"^(?!__)[A-Za-z_][A-Za-z0-9_]*=[^\x00-\x1f]{1,200}$",
        title="NAME=VALUE, as in team=ml",
    ),
]
Text = Annotated[str, Meta(min_length=1)]
Window = Annotated[
    str,
    Meta(
        pattern="^(([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9])?$",
        title="HH:MM-HH:MM",
    ),
]
