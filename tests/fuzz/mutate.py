"""Inputs: recorded ones, damaged; wrong types at every place of a tree; and plain noise.

Everything is drawn from the ``Random`` that is given.  Now and then an input is blown up to
``LARGE`` bytes, which is where a parser that is not linear shows.
"""

from __future__ import annotations

import json
import marshal
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

LARGE: Final = 64 << 10
_LARGE_ONE_IN: Final = 400
_NOISE_ONE_IN: Final = 20

NUMBERS: Final = (
    -1, 0, 1, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63),
    2**64 - 1, 2**64, -(2**64), 10**400,
)  # fmt: skip
TEXTS: Final = (
    "", " ", "\0", "a\0b", "\n", "\r\n", "\ud800", "\udc80", "\udcff\ud800", "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07", "\u202eevil", "\u2028", "\ufeff", "é", "😀", "\x85", "\x7f", "../../etc",
    "/", "//", "/a/../..", "/proc/self/root", "-1", "0x10", "1_000", "+1", "\uff11\uff12",
    "NaN", "null", "%s%n", "{}", "\\", "'", '"', "a" * 300, "a:b:c", "a=b", "true",
)  # fmt: skip
ODD: Final[tuple[Any, ...]] = (
    None, True, False, *NUMBERS, 1.5, -0.0, 1e308, float("nan"), float("inf"), *TEXTS, [], {}, [[]],
    [None], {"": ""}, {"a": {"b": {}}}, ["x", 1, None], [{}], "x" * 5000,
)  # fmt: skip
TOKENS: Final = (
    *(t.encode("utf-8", "surrogatepass") for t in TEXTS),
    *(b"%d" % n for n in NUMBERS),
    b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xff" * 4, b"\0" * 8, b"\t", b"\x0b", b"9" * 5000,
)  # fmt: skip
_NUMBER: Final = re.compile(rb"[0-9]+")
_WORD: Final = re.compile(rb"[A-Za-z_/.]{2,}")

Edit = Callable[[Random, bytearray], None]
Make = Callable[[Random], bytes]


def bytes_of(samples: Sequence[bytes], tokens: Sequence[bytes] = ()) -> Make:
    """Damaged samples; ``tokens`` are what means something in this format."""
    words = (*TOKENS, *tokens, *tokens)

    def make(chance: Random) -> bytes:
        if chance.randrange(_NOISE_ONE_IN) == 0:
            return noise(chance, words)
        data = bytearray(chance.choice(samples))
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 8))):
            _edit(chance, data, words, samples)
        return large(chance, bytes(data))

    return make


def noise(chance: Random, words: Sequence[bytes] = TOKENS) -> bytes:
    """Bytes, or words in any order."""
    if chance.random() < 0.5:
        return chance.randbytes(chance.choice((0, 1, 3, 8, 50, 300)))
    return b"".join(chance.choices(words, k=chance.randrange(1, 12)))


def large(chance: Random, data: bytes) -> bytes:
    """Seldom: one part of it again and again, until it has ``LARGE`` bytes."""
    if chance.randrange(_LARGE_ONE_IN) or not data:
        return data
    begin, end = _span(chance, data)
    lines = data.find(b"\n", begin)
    end = lines + 1 if lines >= 0 and chance.random() < 0.5 else end
    piece = data[begin:end] or b"\n"
    return data[:begin] + piece * ((LARGE - len(data)) // len(piece) + 1) + data[end:]


def _edit(
    chance: Random, data: bytearray, words: Sequence[bytes], samples: Sequence[bytes]
) -> None:
    begin, end = _span(chance, data)
    match chance.randrange(11):
        case 0 if data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case 1 if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
        case 2:
            data[begin:begin] = chance.choice(words)
        case 3:
            data[begin:end] = chance.choice(words)
        case 4:
            del data[begin:end]
        case 5:
            data[begin:begin] = data[begin:end] * chance.choice((1, 2, 50))
        case 6:
            del data[begin:]
        case 7:
            other = chance.choice(samples)
            data[begin:] = other[_span(chance, other)[0] :]
        case 8:
            _replace(chance, data, _NUMBER, b"%d" % chance.choice(NUMBERS))
        case 9:
            _replace(chance, data, _WORD, chance.choice(words))
        case _:
            lines = data.split(b"\n")
            at = chance.randrange(len(lines))
            lines.insert(chance.randrange(len(lines)), lines[at])
            del lines[at : at + chance.randrange(2)]
            data[:] = b"\n".join(lines)


def _replace(chance: Random, data: bytearray, what: re.Pattern[bytes], by: bytes) -> None:
    if found := what.search(data, chance.randrange(len(data) + 1)):
        data[found.start() : found.end()] = by


def _span(chance: Random, data: bytes | bytearray) -> tuple[int, int]:
    begin = chance.randrange(len(data) + 1)
    return begin, min(len(data), begin + chance.choice((1, 2, 4, 8, 32, 200)))


# --- trees: JSON and msgpack ---

_KEY: Final = re.compile(r'"[A-Za-z_]+": ?')
_DEEP: Final = (
    "[" * 100_000, "[" * 900 + "]" * 900, '{"a":' * 50_000, '{"a":' * 900 + "1" + "}" * 900,
)  # fmt: skip


def json_of(samples: Sequence[bytes]) -> Make:
    """Recorded documents: wrong types, keys removed, renamed and doubled, and damaged text."""
    trees = [json.loads(s) for s in samples]

    def make(chance: Random) -> bytes:
        text = json.dumps(tree_of(chance, chance.choice(trees), ODD))
        if chance.random() < 0.1:
            text = _doubled_key(chance, text)
        if chance.randrange(200) == 0:
            text = _nested(chance, text)
        data = bytearray(text.encode("ascii"))
        if chance.random() < 0.15:
            _edit(chance, data, TOKENS, samples)
        return large(chance, bytes(data))

    return make


_MOST_HOLDERS: Final = 2000


def tree_of(chance: Random, tree: Any, odd: Sequence[Any]) -> Any:
    """A copy with some of its values replaced by ``odd`` ones, or by others of its own."""
    whole = [_copied(tree)]
    for _ in range(chance.choice((0, 1, 1, 2, 4, 16))):
        holders = _holders(whole)
        if len(holders) > _MOST_HOLDERS:
            break
        holder = chance.choice(holders)
        key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        match chance.randrange(6):
            case 0 if holder is not whole:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[chance.choice(TEXTS)] = holder.pop(key)
            case 2:
                other = chance.choice(holders)
                holder[key] = _copied(other[0] if isinstance(other, list) else other)
            case 3 if isinstance(holder, list) and holder is not whole:
                holder += [holder[key]] * chance.choice((1, 3, 30))
            case _:
                holder[key] = _copied(chance.choice(odd))
    return whole[0]


def _holders(tree: Any) -> list[Any]:
    """Every array and table that has something in it."""
    found, left = [], [tree]
    while left:
        each = left.pop()
        if each and isinstance(each, dict | list):
            found.append(each)
            left += each.values() if isinstance(each, dict) else each
    return found


def _copied(tree: Any) -> Any:
    """``copy.deepcopy``, but quick."""
    return marshal.loads(marshal.dumps(tree)) if isinstance(tree, dict | list) else tree


def _doubled_key(chance: Random, text: str) -> str:
    keys = list(_KEY.finditer(text))
    if not keys:
        return text
    at = chance.choice(keys)
    value = json.dumps(chance.choice(ODD))
    return f"{text[: at.start()]}{at[0]}{value}, {text[at.start() :]}"


def _nested(chance: Random, text: str) -> str:
    deep = chance.choice(_DEEP)
    keys = list(_KEY.finditer(text))
    if not keys or chance.random() < 0.3:
        return deep
    at = chance.choice(keys)
    return f"{text[: at.end()]}{deep}, {text[at.start() :]}"
