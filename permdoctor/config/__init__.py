"""The configuration: TOML in, one frozen ``Config`` out.

``tables.py``, ``sinks.py`` and ``values.py`` are what can be configured; ``files.py`` is where it
is read from and who may have written it, ``merge.py`` how several files become one, ``errors.py``
what is said of mistakes; ``show.py`` and ``schema.py`` are the ways back.  Options of the command
line win over the files; that is the commands' business.
"""

from permdoctor.config.files import (
    DEFAULT_DIR,
    SUFFIX,
    VARIABLE,
    Loaded,
    Places,
    changed,
    from_toml,
    load,
    places,
    read,
)
from permdoctor.config.sinks import (
    OWN_LABELS,
    Alertmanager,
    Alerts,
    Apprise,
    Command,
    HttpSink,
    Journald,
    PagerDuty,
    Sink,
    Webhook,
)
from permdoctor.config.tables import (
    Check,
    Config,
    Engines,
    Ignore,
    Log,
    Metrics,
    NeedRule,
    Repair,
    Service,
    Unasked,
)

__all__ = [
    "DEFAULT_DIR",
    "OWN_LABELS",
    "SUFFIX",
    "VARIABLE",
    "Alertmanager",
    "Alerts",
    "Apprise",
    "Check",
    "Command",
    "Config",
    "Engines",
    "HttpSink",
    "Ignore",
    "Journald",
    "Loaded",
    "Log",
    "Metrics",
    "NeedRule",
    "PagerDuty",
    "Places",
    "Repair",
    "Service",
    "Sink",
    "Unasked",
    "Webhook",
    "changed",
    "from_toml",
    "load",
    "places",
    "read",
]
