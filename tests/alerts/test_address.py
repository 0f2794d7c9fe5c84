"""Where nobody is told: link-local and metadata addresses, in every form they can take."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from permdoctor.alerts import http
from permdoctor.alerts.address import refusal
from permdoctor.alerts.sink import RetryError

from .receiver import receiving


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "febf::1",
        "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
        "::169.254.169.254", "100.100.100.200", "::ffff:100.100.100.200", "168.63.129.16",
        "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "224.0.0.1", "ff02::1", "0.0.0.0", "::",
        "metadata", "",
    ],
)  # fmt: skip
def test_is_refused(address: str) -> None:
    assert refusal(address)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.0.0.1", "192.168.1.1", "8.8.8.8",
     "169.253.255.255", "169.255.0.0", "fd00:ec2::253", "2001:db8::1", "64:ff9b::808:808"],
)  # fmt: skip
def test_is_allowed(address: str) -> None:
    assert refusal(address) == ""


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The addresses of every connect(2)."""
    seen: list[Any] = []
    real = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        seen.append(address)
        real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    return seen


def _post(url: str) -> http.Answer:
    return http.post(http.parse_url(url, "test"), b"{}", {}, timeout=60, context=None)


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "2852039166", "0xa9fea9fe"],
)
def test_a_literal_is_not_connected_to(host: str, connected: list[Any]) -> None:
    """The last two are what inet_aton(3) takes for 169.254.169.254."""
    with pytest.raises(RetryError, match="not connected"):
        _post(f"http://{host}/latest/meta-data")
    assert connected == []


def _answers(*addresses: str) -> Any:
    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    return getaddrinfo


@pytest.mark.parametrize(
    "addresses", [("169.254.169.254",), ("127.0.0.1", "169.254.169.254")], ids=["only", "among"]
)
def test_a_name_is_not_connected_to(
    addresses: tuple[str, ...], connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _answers(*addresses))
    with pytest.raises(RetryError, match=r"metadata service: not connected"):
        _post("http://hooks.example/x")
    assert connected == []


def test_the_address_that_was_checked_is_connected_to(
    connected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second answer of a name server that changes its mind is never asked for."""
    answers = [_answers("127.0.0.1"), _answers("169.254.169.254")]
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda *a, **k: (answers.pop(0) if answers else None)(*a, **k)
    )
    with receiving() as receiver:
        assert _post(f"http://hooks.example:{receiver.port}/").status == 200
        assert connected == [("127.0.0.1", receiver.port)]
    assert len(answers) == 1
