"""Addresses that nobody is told at: link-local ones, and the metadata services of clouds.

Whoever can write the configuration, or answer a name's lookup, must not make this service, which
runs as root on the host, speak to what only the host may reach.  Loopback is allowed: that is
where an Alertmanager or a relay may run.  Pure; asked for the very address that is connected to.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

METADATA: Final = frozenset(
    ip_address(a)
    for a in (
        "169.254.169.254",  # AWS, Azure, Google, OpenStack, and most others
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle's first
        "fd00:ec2::254",  # AWS over IPv6
        "fd20:ce::254",  # Google over IPv6
    )
)

_NAT64: Final = IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = IPv6Network("::/96")


def refusal(address: str) -> str:
    """Why ``address`` (an IP literal, as ``sockaddr`` has it) must not be connected to; empty: it
    may.
    """
    try:
        given = ip_address(address.partition("%")[0])
    except ValueError:
        return "not an IP address"
    for ip in (given, *_embedded(given)):
        if ip in METADATA:
            return "a cloud's metadata service"
        if ip.is_link_local:
            return "a link-local address"
        if ip.is_multicast or (ip.is_unspecified and ip is given):
            return "not the address of a host"
    return ""


def _embedded(ip: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that a packet to this IPv6 address could end at (RFC 4291, 6052, 3056,
    4380).
    """
    if isinstance(ip, IPv4Address):
        return []
    inside = [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
    if ip in _NAT64 or (ip in _COMPATIBLE and int(ip) > 0xFFFF):
        inside.append(IPv4Address(int(ip) & 0xFFFF_FFFF))
    return [v4 for v4 in inside if v4 is not None]


def is_loopback(host: str) -> bool:
    """Whether a host as a URL names it is this machine, without a lookup."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
