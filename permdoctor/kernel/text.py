"""Untrusted names as text that is safe to show.  Used wherever bytes become a sentence."""

from __future__ import annotations


def printable(name: bytes | str) -> str:
    r"""A name as text without control characters: they and undecodable bytes become ``\xNN``.

    Also escaped: the backslash itself (so the text is unambiguous), and the Unicode characters
    that reorder or hide text on a terminal (bidi controls, zero-width, line separators).
    """
    text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape(c) for c in text)


def _escape(c: str) -> str:
    code = ord(c)
    if c == "\\":
        return "\\\\"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if c == " " or c.isprintable():
        return c
    if code < 0x80:
        return f"\\x{code:02x}"
    if code < 0x100:
        return "".join(f"\\x{b:02x}" for b in c.encode("utf-8"))
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clean(text: str) -> str:
    """A sentence for a terminal: what is left of control characters becomes visible.

    Idempotent, unlike :func:`printable`: backslashes stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or c == " " or c.isprintable() else _escape(c) for c in text)
