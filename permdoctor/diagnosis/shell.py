"""Shell words for the commands that a report proposes.

A hostile name must neither break out of its word nor reach the terminal raw.
"""

from __future__ import annotations

import shlex


def quote(name: bytes | str) -> str:
    r"""A word for bash: plain, in single quotes, or as ``$'...'`` where it has odd bytes."""
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    text = raw.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return shlex.quote(text)
    body = "".join(chr(b) if 0x20 <= b < 0x7F and b not in b"'\\" else f"\\x{b:02x}" for b in raw)
    return f"$'{body}'"


def path_argument(path: bytes) -> str:
    """A path as an argument: absolute paths need no ``--``."""
    return quote(path) if path.startswith(b"/") else "-- " + quote(path)
