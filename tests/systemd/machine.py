"""A booted systemd: this machine's own files under an overlay, in systemd-nspawn.

Nothing is downloaded: the tree is / with an upper layer in memory, in which /etc/systemd/system is
empty (none of this machine's services starts) and /opt/permdoctor is an installation as pipx or uv
make it: an environment with what permdoctor requires, and a copy of the package.  ``PLAIN``
directories are of a plain filesystem: on overlay nothing is repaired.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.cli.process import ROOT
from tests.lab.needs import MissingError, need_root, need_tools

Done = subprocess.CompletedProcess[str]

PROGRAM = "/opt/permdoctor/bin/permdoctor"
TARGET = """\
[Unit]
Description=The target of the tests
Requires=basic.target systemd-journald.service
After=basic.target
AllowIsolate=yes
"""
BOOT_SECONDS = 20.0
PLAIN = ("srv", "home", "var/tmp")


class Machine:
    """``upper`` is the layer that is the machine's own, ``pid`` its process 1."""

    def __init__(self, upper: Path, pid: int) -> None:
        self.upper = upper
        self.pid = pid

    def run(self, *words: str, check: bool = True, **environ: str) -> Done:
        """A command within, as root."""
        done = subprocess.run(
            [
                "nsenter",
                "-t",
                str(self.pid),
                "-m",
                "-u",
                "-i",
                "-n",
                "-p",
                "-r",
                "-w",
                "--",
                *words,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **environ},
        )
        if check and done.returncode:
            raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def permdoctor(self, *words: str, check: bool = True) -> Done:
        return self.run(PROGRAM, *words, check=check)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """``systemctl show``."""
        done = self.run("systemctl", "show", unit, "-p", ",".join(properties))
        return dict(line.split("=", 1) for line in done.stdout.splitlines())

    def wait(self, unit: str, seconds: float = 10.0, **wanted: str) -> dict[str, str]:
        """Until the properties are so."""
        limit = time.monotonic() + seconds
        while (found := self.show(unit, *wanted)) != wanted:
            if time.monotonic() > limit:
                raise AssertionError(f"{unit}: {found}, not {wanted}\n{self.journal(unit)}")
            time.sleep(0.05)
        return found

    def journal(self, unit: str) -> str:
        """What a unit and systemd said, a line each."""
        self.run("journalctl", "--sync")
        done = self.run("journalctl", "-u", unit, "-o", "json", "--no-pager")
        return "\n".join(str(json.loads(x).get("MESSAGE")) for x in done.stdout.splitlines())

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file within."""
        inside = Path(f"/proc/{self.pid}/root{path}")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(text)
        inside.chmod(mode)


@contextlib.contextmanager
def booted() -> Iterator[Machine]:
    """Boot it; raises ``MissingError`` where that cannot be done here."""
    need_root()
    need_tools("systemd-nspawn", "nsenter", "mount")
    if not os.path.exists("/lib/systemd/systemd"):
        raise MissingError("needs systemd: apt-get install systemd systemd-container")
    with contextlib.ExitStack() as stack:
        base = Path(tempfile.mkdtemp(prefix="pd-systemd-"))
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        _mount(stack, base, "-t", "tmpfs", "-o", "mode=0755", "tmpfs")
        upper, work, merged = (base / n for n in ("upper", "work", "merged"))
        for path in (upper, work, merged):
            path.mkdir()
        _fill(upper)
        layers = f"lowerdir=/,upperdir={upper},workdir={work}"
        _mount(stack, merged, "-t", "overlay", "-o", layers, "overlay")
        disk = Path(tempfile.mkdtemp(prefix="pd-systemd-"))
        stack.callback(shutil.rmtree, disk, ignore_errors=True)
        nspawn = stack.enter_context(_nspawn(merged, disk))
        machine = Machine(upper, _first_process(nspawn))
        _await_boot(machine, nspawn)
        yield machine


def _mount(stack: contextlib.ExitStack, target: Path, *words: str) -> None:
    done = subprocess.run(["mount", *words, target], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"cannot mount: {done.stderr.strip()}")
    stack.callback(subprocess.run, ["umount", "-l", target], check=False)


def _fill(upper: Path) -> None:
    units = upper / "etc/systemd/system"
    units.mkdir(parents=True)
    os.setxattr(units, "trusted.overlay.opaque", b"y")
    (units / "test.target").write_text(TARGET)
    (upper / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    _install(upper / "opt/permdoctor")


def _install(prefix: Path) -> None:
    """An environment with the package and what it requires, but nothing else."""
    python = os.path.realpath(sys.executable)
    site = prefix / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    site.mkdir(parents=True)
    (prefix / "bin").mkdir()
    (prefix / "bin/python").symlink_to(python)
    (prefix / "pyvenv.cfg").write_text(f"home = {os.path.dirname(python)}\n")
    program = prefix / "bin/permdoctor"
    program.write_text(
        f"#!{PROGRAM.removesuffix('permdoctor')}python\n"
        "import sys\nfrom permdoctor.cli import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    ours = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "permdoctor", site / "permdoctor", ignore=ours)
    for distribution in _required():
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and source.is_file():
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, site / file)
    for path in site.rglob("*"):
        path.chmod(path.stat().st_mode & ~0o022)  # whatever the umask of the checkout was


def _required() -> Iterator[importlib.metadata.Distribution]:
    """What the package and its extra ``service`` require, what these require, and so on."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    todo = [*project["dependencies"], *project["optional-dependencies"].get("service", ())]
    seen: set[str] = set()
    while todo:
        match = re.match(r"([A-Za-z0-9_.-]+)", line := todo.pop())
        assert match is not None
        if match[1] in seen or "extra" in line:
            continue
        seen.add(match[1])
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found = importlib.metadata.distribution(match[1])
            todo += found.requires or ()
            yield found


@contextlib.contextmanager
def _nspawn(root: Path, disk: Path) -> Iterator[subprocess.Popen[bytes]]:
    options = ["--register=no", "--keep-unit", "--private-network", "--link-journal=no"]
    options.append("--system-call-filter=@keyring bpf")  # for runc
    for name in PLAIN:
        (disk / name).mkdir(mode=0o755, parents=True)
        options.append(f"--bind={disk}/{name}:/{name}")
    process = subprocess.Popen(
        ["systemd-nspawn", "-q", "-D", root, *options, "-b", "systemd.unit=test.target"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _first_process(nspawn: subprocess.Popen[bytes]) -> int:
    """Its process 1, as this machine counts it."""
    limit = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < limit:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/status").read_text()
                if f"\nPPid:\t{nspawn.pid}\n" in text and re.search(r"\nNSpid:\t\d+\t1\n", text):
                    return int(pid)
        _must_run(nspawn)
        time.sleep(0.02)
    raise MissingError("systemd-nspawn did not start anything")


def _await_boot(machine: Machine, nspawn: subprocess.Popen[bytes]) -> None:
    limit = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < limit:
        with contextlib.suppress(AssertionError):
            if machine.show("test.target", "ActiveState")["ActiveState"] == "active":
                return
        _must_run(nspawn)
        time.sleep(0.05)
    raise MissingError(f"systemd did not boot within {BOOT_SECONDS:g} seconds")


def _must_run(nspawn: subprocess.Popen[bytes]) -> None:
    if nspawn.poll() is not None:
        assert nspawn.stderr is not None
        why = nspawn.stderr.read().decode("utf-8", "replace").strip()
        raise MissingError(f"systemd-nspawn cannot boot here: {why}")
