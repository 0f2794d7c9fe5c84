"""Numbers in the kernel's texts: digits and nothing else, and not larger than there are any.

``int`` would take signs, blanks and underscores, and any number of digits.
"""

from __future__ import annotations

from typing import Final

MAX_U32: Final = 0xFFFFFFFF
"""Of ids, with the invalid one; pids and device numbers are smaller."""


def number(field: bytes, most: int = MAX_U32) -> int:
    """Raises ``ValueError``."""
    if not field.isdigit() or len(field) > 20:
        raise ValueError(f"invalid number: {field[:40]!r}")
    found = int(field)
    if found > most:
        raise ValueError(f"{found} is larger than {most}")
    return found
