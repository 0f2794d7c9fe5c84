"""The configuration as the reconciler takes it."""

from __future__ import annotations

import os
import time

import msgspec

from permdoctor.config import Config
from permdoctor.daemon.events import RepairRule, Rules, Silence
from permdoctor.diagnosis.report import Severity


def host_of(config: Config) -> str:
    """What this machine is called in alerts."""
    return config.alerts.host or os.uname().nodename


def rules_of(config: Config) -> Rules:
    service, repair = config.service, config.repair
    return Rules(
        host=host_of(config),
        settle=service.settle_seconds,
        sweep=service.sweep_seconds,
        debounce=service.debounce_seconds,
        damp=service.damp_seconds,
        check_again=service.check_again_seconds,
        min_severity=Severity[config.alerts.min_severity.upper()],
        repairs_per_hour=repair.per_hour,
        silences=tuple(
            Silence(
                reason=s.reason,
                code=s.code,
                container=s.container,
                label=s.label,
                path=s.path,
                expires=s.until,
            )
            for s in config.ignore
        ),
        repairs=tuple(
            RepairRule(
                container=u.container,
                engine=u.engine,
                remedy=u.remedy,
                roots=u.roots,
                max_entries=u.max_entries,
                window=u.minutes,
            )
            for u in repair.unasked
        ),
        policy=msgspec.json.encode(repair).decode(),
    )


def local_minute(wall: float) -> int:
    """The minute of the local day, for maintenance windows."""
    local = time.localtime(wall)
    return local.tm_hour * 60 + local.tm_min
