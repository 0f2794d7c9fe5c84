"""Capability sets as /proc writes them."""

from __future__ import annotations

import pytest

from permdoctor.kernel.caps import ALL, DOCKER_DEFAULT, Cap, names, parse_caps


@pytest.mark.parametrize(
    ("text", "caps"),
    [
        ("0000000000000000", Cap.NONE),
        pytest.param("00000000a80425fb", DOCKER_DEFAULT, id="Docker's root"),
        pytest.param("000001ffffffffff", ALL, id="all of Linux 5.9 and later"),
        pytest.param("ffffffffffffffff", ALL, id="bits of the future"),
        ("0000000000000002", Cap.DAC_OVERRIDE),
        ("0000010000000000", Cap.CHECKPOINT_RESTORE),
    ],
)
def test_parse(text: str, caps: Cap) -> None:
    assert parse_caps(text) == caps


def test_garbage_is_an_error() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_caps("xyz")


def test_names_are_in_bit_order() -> None:
    assert names(Cap.FOWNER | Cap.CHOWN) == ("CAP_CHOWN", "CAP_FOWNER")
    assert names(Cap.NONE) == ()
    assert len(names(DOCKER_DEFAULT)) == 14
    assert len(names(ALL)) == 41
