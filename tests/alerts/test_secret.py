"""Secrets come from files that others cannot read, or the environment, and are never shown."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

from permdoctor.alerts.secret import Secret, hide, read_secret
from permdoctor.errors import UsageError

VALUE = "hunter2-hunter2"


def _file(tmp_path: Path, mode: int = 0o600, data: bytes = VALUE.encode() + b"\n") -> str:
    file = tmp_path / "secret"
    file.write_bytes(data)
    file.chmod(mode)
    return str(file)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o640, 0o440])
def test_a_file_of_ours_is_read(tmp_path: Path, mode: int) -> None:
    assert read_secret(_file(tmp_path, mode), "", {}, "x").reveal() == VALUE


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o660, 0o620])
def test_a_file_of_everybodys_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(UsageError, match=f"read or written by others .mode {mode:04o}") as raised:
        read_secret(_file(tmp_path, mode), "", {}, "x")
    assert VALUE not in str(raised.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    file = _file(tmp_path)
    os.chown(file, 1234, 1234)
    with pytest.raises(UsageError, match="belongs to uid 1234"):
        read_secret(file, "", {}, "x")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b" \n", "holds nothing", id="empty"),
        pytest.param(b"\xff" + VALUE.encode(), "not UTF-8", id="not text"),
        pytest.param(b"a" * 70_000, "larger than", id="large"),
    ],
)
def test_what_is_no_secret_is_refused(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        read_secret(_file(tmp_path, data=data), "", {}, "x")
    assert raised.value.__cause__ is None
    assert VALUE not in str(raised.value)


@pytest.mark.timeout(10)
def test_no_file_and_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(UsageError, match="not a regular file"):
        read_secret(str(tmp_path / "fifo"), "", {}, "x")
    with pytest.raises(UsageError, match="No such file"):
        read_secret(str(tmp_path / "none"), "", {}, "x")


def test_the_environment() -> None:
    assert read_secret("", "KEY", {"KEY": VALUE}, "x").reveal() == VALUE
    with pytest.raises(UsageError, match="environment variable KEY holds nothing"):
        read_secret("", "KEY", {}, "x")


def test_a_secret_does_not_print() -> None:
    secret = Secret(VALUE)
    shown = f"{secret} {secret!r} {secret!s} {[secret]} {vars(Secret)}" + "%s" % secret  # noqa: UP031
    assert VALUE not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        copy.copy(secret)


def test_an_answer_that_repeats_it() -> None:
    assert hide(f"bad key {VALUE}!", [Secret(f"{VALUE}\nother-key")]) == "bad key ...!"
