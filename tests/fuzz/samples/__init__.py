"""Recorded once: Docker 20.10, Podman 4.3, and /proc of a container of each."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def recorded(name: str) -> bytes:
    return (_HERE / name).read_bytes()


def lines_of(name: str) -> list[bytes]:
    return recorded(name).splitlines()
