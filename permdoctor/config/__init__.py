"""The configuration: TOML in, one frozen ``Config`` out.

``tables.py`` and ``sinks.py`` are what can be configured, ``files.py`` where it is read from and
who may have written it, ``errors.py`` what is said of a mistake.  Options of the command line win
over the files; that is the commands' business.
"""

from permdoctor.config.files import DEFAULT_FILE, VARIABLE, from_toml, load
from permdoctor.config.sinks import (
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
    "DEFAULT_FILE",
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
    "Log",
    "Metrics",
    "NeedRule",
    "PagerDuty",
    "Repair",
    "Service",
    "Sink",
    "Unasked",
    "Webhook",
    "from_toml",
    "load",
]
