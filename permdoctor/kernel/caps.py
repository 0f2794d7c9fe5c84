"""Capabilities, as ``CapEff`` of ``/proc/PID/status`` gives them (capabilities(7)).

Never derived from configuration for a running process: the effective set is read.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final


class Cap(IntFlag):
    """A set of capabilities; the bit numbers are those of ``uapi/linux/capability.h``."""

    NONE = 0
    CHOWN = 1 << 0
    DAC_OVERRIDE = 1 << 1
    DAC_READ_SEARCH = 1 << 2
    FOWNER = 1 << 3
    FSETID = 1 << 4
    KILL = 1 << 5
    SETGID = 1 << 6
    SETUID = 1 << 7
    SETPCAP = 1 << 8
    LINUX_IMMUTABLE = 1 << 9
    NET_BIND_SERVICE = 1 << 10
    NET_BROADCAST = 1 << 11
    NET_ADMIN = 1 << 12
    NET_RAW = 1 << 13
    IPC_LOCK = 1 << 14
    IPC_OWNER = 1 << 15
    SYS_MODULE = 1 << 16
    SYS_RAWIO = 1 << 17
    SYS_CHROOT = 1 << 18
    SYS_PTRACE = 1 << 19
    SYS_PACCT = 1 << 20
    SYS_ADMIN = 1 << 21
    SYS_BOOT = 1 << 22
    SYS_NICE = 1 << 23
    SYS_RESOURCE = 1 << 24
    SYS_TIME = 1 << 25
    SYS_TTY_CONFIG = 1 << 26
    MKNOD = 1 << 27
    LEASE = 1 << 28
    AUDIT_WRITE = 1 << 29
    AUDIT_CONTROL = 1 << 30
    SETFCAP = 1 << 31
    MAC_OVERRIDE = 1 << 32
    MAC_ADMIN = 1 << 33
    SYSLOG = 1 << 34
    WAKE_ALARM = 1 << 35
    BLOCK_SUSPEND = 1 << 36
    AUDIT_READ = 1 << 37
    PERFMON = 1 << 38
    BPF = 1 << 39
    CHECKPOINT_RESTORE = 1 << 40


ALL: Final = Cap((1 << 41) - 1)

DOCKER_DEFAULT: Final = (
    Cap.CHOWN
    | Cap.DAC_OVERRIDE
    | Cap.FSETID
    | Cap.FOWNER
    | Cap.MKNOD
    | Cap.NET_RAW
    | Cap.SETGID
    | Cap.SETUID
    | Cap.SETFCAP
    | Cap.SETPCAP
    | Cap.NET_BIND_SERVICE
    | Cap.SYS_CHROOT
    | Cap.KILL
    | Cap.AUDIT_WRITE
)
"""What Docker leaves to root in a container (moby ``oci/caps/defaults.go``)."""

FILE_CAPS: Final = (
    Cap.CHOWN
    | Cap.DAC_OVERRIDE
    | Cap.DAC_READ_SEARCH
    | Cap.FOWNER
    | Cap.FSETID
    | Cap.LINUX_IMMUTABLE
)
"""The capabilities that this model consults."""


def parse_caps(hexadecimal: str) -> Cap:
    """The set in a ``Cap*`` line of ``/proc/PID/status``; unknown future bits are dropped."""
    return Cap(int(hexadecimal, 16) & ALL)


def names(caps: Cap) -> tuple[str, ...]:
    """``CAP_...`` names, in bit order."""
    return tuple(f"CAP_{c.name}" for c in Cap if c and c in caps)
