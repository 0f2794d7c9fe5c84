"""A question to a status socket, in plain HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from pathlib import Path
from typing import Any


def ask(path: Path, what: str, method: str = "GET") -> tuple[int, Any, dict[str, str]]:
    """Status, JSON and headers.  Raises ``OSError`` where nobody answers within 10 s."""
    with contextlib.closing(http.client.HTTPConnection("localhost")) as connection:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(60)
        connection.sock.connect(str(path))
        connection.request(method, what)
        answer = connection.getresponse()
        body = answer.read()
    is_json = answer.headers["Content-Type"] == "application/json"
    return answer.status, json.loads(body) if is_json else body, dict(answer.headers)


def can_connect(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0
