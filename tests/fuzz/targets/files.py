"""The configuration: TOML that a person wrote, in several files."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from permdoctor import config
from permdoctor.config.merge import origins
from permdoctor.config.show import as_toml
from permdoctor.errors import UsageError
from tests.cli.process import CONTROL
from tests.cli.test_config import WHOLE
from tests.fuzz.mutate import bytes_of, large
from tests.fuzz.oracle import fits, must
from tests.fuzz.run import Feed, Target, scratch

DIVIDER = b"\n#--- another file ---\n"
_ASSIGNMENT = re.compile(rb"(?m)^(\w+ = )(.*)$")
_TABLES = re.split(rb"(?m)^(?=\[)", WHOLE.encode())
"""Of the example with everything in it, one table each."""

VALUES = (
    b"1", b"-1", b"0", b"0.5", b"1e400", b"nan", b"inf", b"-inf", b"true", b'""', b"[]", b"{}",
    b"9" * 30, b"9" * 5000, b"0x_", b"0o777", b"1_000", b"2030-01-31", b"9999-12-31",
    b"0001-01-01", b"2030-01-31T00:00:00+23:59", b"0001-01-01T00:00:00Z", b"25:61:00", b'"/x"',
    b'"/\\u0000"', b'"\\ud800"', b'"\\U0010ffff"', b"'\x1b[31m'", b'"""\n\n"""', b"[[]]", b"[{}]",
    b'["/", 1]', b"[1,[2,[3]]]", b"{a = {b = {c = 1}}}", b'"' + b"x" * 5000 + b'"',
    b'"\xe2\x80\xae"', b'"http://[::1"', b'"https://u:p@h/"', b'"127.0.0.1:99999"', b'"[::1]:1"',
    b'"23:00-01:00"',
)  # fmt: skip
TOKENS = (
    *(m[1] for m in _ASSIGNMENT.finditer(WHOLE.encode())), b"[[ignore]]\n", b"[alerts]\n",
    b"[[need]]\n", b"a.b.c = 1\n", b'"" = 1\n', b"[a.b]\n", b"[", b"]]", b"'''", b"\\", b"#",
    b"=", DIVIDER, *VALUES,
)  # fmt: skip


def some_tables(chance: Random) -> bytes:
    tables = chance.sample(_TABLES, chance.randrange(1, 4))
    return (DIVIDER if chance.random() < 0.3 else b"\n").join(tables)


def toml_of(chance: Random) -> bytes:
    """A few tables of the example, with other values, or damaged as text."""
    text = some_tables(chance)
    for _ in range(chance.randrange(3)):
        found = list(_ASSIGNMENT.finditer(text))
        if not found:
            break
        at = chance.choice(found)
        text = text[: at.start(2)] + chance.choice(VALUES) + text[at.end(2) :]
    if chance.random() < 0.4:
        return bytes_of((text,), TOKENS)(chance)
    return large(chance, text)


@contextlib.contextmanager
def configuration() -> Iterator[Feed]:
    with scratch() as place:
        drop_ins = Path(place, "conf.d")
        drop_ins.mkdir()

        def feed(data: bytes) -> None:
            files = [Path(place, "config.toml"), *(drop_ins / f"{n}.toml" for n in range(9))]
            for file, text in zip(files, data.split(DIVIDER), strict=False):
                file.write_bytes(text)
            try:
                _read(place)
            except UsageError as e:
                must(all("config" in message or "conf.d" in message for message, _ in e.lines[:50]),
                     f"no file is named: {e.message:.200}")  # fmt: skip
                must(len(e.lines) <= 60, f"{len(e.lines)} mistakes")
                raise
            finally:
                for file in files:
                    file.unlink(missing_ok=True)

        yield feed


def _read(place: str) -> None:
    loaded = config.read(place, {})
    fits(loaded.config, config.Config)
    shown = as_toml(loaded.config)
    must(as_toml(config.from_toml(shown, "shown")) == shown, "what is shown means something else")
    must(not CONTROL.search(as_toml(loaded.config, origins(loaded.sources))), "a control character")


TARGETS = (Target(name="configuration", make=toml_of, open=configuration, seconds=0.5),)
