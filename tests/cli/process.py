"""permdoctor as a process of its own, in a pipe and on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

Done = subprocess.CompletedProcess[str]

ROOT = Path(__file__).parent.parent.parent
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]")
SGR = re.compile(r"\x1b\[[0-9;]*m")
NO_ENGINE = "unix:///nonexistent/docker.sock"


def permdoctor(*args: str | bytes, **environ: str) -> Done:
    return subprocess.run(
        [sys.executable, "-m", "permdoctor", *args],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environ},
    )


def python(code: str, **environ: str) -> Done:
    """Run Python with the builders at hand."""
    return subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom tests.render.builders import *\n{code}"],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environ},
    )


def on_a_terminal(code: str, **environ: str) -> str:
    """What a terminal of 80 columns receives."""
    master, slave = pty.openpty()
    received: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(master, 65536):
                received.append(data)
        except OSError:
            return

    reader = threading.Thread(target=read)
    reader.start()
    subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom tests.render.builders import *\n{code}"],
        cwd=Path(__file__).parent.parent.parent,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        check=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TERM": "xterm", **environ},
    )
    os.close(slave)
    reader.join()
    os.close(master)
    return b"".join(received).decode("utf-8").replace("\r\n", "\n")
