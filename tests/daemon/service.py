"""A real ``permdoctor serve`` in a process of its own, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.daemon.asking import ask

QUICK = """
[service]
socket = "{base}/status.sock"
settle_seconds = 0.5
debounce_seconds = 0.2
damp_seconds = {damp}
{service}
[repair]
state = "{base}/state"
{repair}
[metrics]
listen = "{listen}"
[log]
format = "logfmt"
level = "debug"
{more}
"""


class Service:
    """``config.toml`` lies in ``base``; ``start`` and ``kill`` as often as you like."""

    def __init__(self, base: Path, *hosts: str, **more: str) -> None:
        self.base, self.hosts = base, hosts
        base.mkdir(exist_ok=True, mode=0o755)
        self.config = base / "config.toml"
        self.configure(**more)
        self.process: subprocess.Popen[bytes] | None = None
        self.notified: socket.socket | None = None

    def configure(
        self,
        *,
        service: str = "",
        repair: str = "",
        more: str = "",
        listen: str = "",
        damp: str = "1",
    ) -> None:
        """Lines for these tables, and values for these keys."""
        self.config.write_text(
            QUICK.format(
                base=self.base, service=service, repair=repair, more=more, listen=listen, damp=damp
            )
        )

    def start(self, patch: str = "", **environ: str) -> Service:
        """``patch``: lines of Python that are run before everything else."""
        hosts = [w for h in self.hosts for w in ("--host", h)]
        code = f"{patch}\nimport sys\nfrom permdoctor.cli import main\nsys.exit(main())"
        argv = [sys.executable, "-c", code, "serve", "--config", str(self.config), *hosts]
        with (self.base / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stderr=log, env={**os.environ, **environ})
        return self

    def start_notified(self, patch: str = "", **environ: str) -> Service:
        """With a socket for sd_notify, whose words :meth:`words` gives."""
        address = self.base / "notify.sock"
        address.unlink(missing_ok=True)
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(address))
        return self.start(patch, NOTIFY_SOCKET=str(address), **environ)

    def words(self) -> list[str]:
        assert self.notified is not None
        self.notified.setblocking(False)
        found = []
        while True:
            try:
                found.append(self.notified.recv(4096).decode())
            except BlockingIOError:
                return found

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        lines = (self.base / "log").read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if "event=asked" not in line)

    def get(self, path: str) -> Any:
        """``None`` where nobody answers.  Who asks too often waits."""
        while (found := self._get(path)) is not None and found[0] == 429:
            time.sleep(1)
        return found and found[1]

    def _get(self, path: str) -> tuple[int, Any] | None:
        try:
            return ask(self.base / "status.sock", path)[:2]
        except OSError:
            return None

    def findings(self) -> set[tuple[str, str]]:
        """(container, code) of everything that is found and more than worth knowing."""
        answer = self.get("/v1/findings")
        rows = answer["findings"] if answer else []
        return {(r["container"], r["code"]) for r in rows if r["severity"] != "info"}

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """-9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(60)

    def stop(self, seconds: float = 15.0) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def processes(self) -> set[int]:
        """It and everybody whom it started, however they are related."""
        found = set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                line = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(self.config) in line and b"serve" in line:
                found.add(int(entry.name))
        return found

    def rss(self) -> int:
        """Of the service's own process, in KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0
