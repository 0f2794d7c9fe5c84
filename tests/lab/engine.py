"""Real Docker Engines beside any other: each with its own data, sockets and mount namespace.

A daemon lives in a mount namespace of its own (a slave of the lab's directory, so what a test
mounts below it arrives), therefore its mounts go when it goes.  It is sent SIGTERM should the
test process die.  No network, no firewall rules; an engine that is there already is not touched.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.needs import MissingError, need_root, need_tools

READY_SECONDS = 20.0
_QUIET = (
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
    "--userland-proxy=false",
    "--shutdown-timeout=1",
)
_ROOTLESS_SCRIPTS = (
    "/usr/share/docker.io/contrib/dockerd-rootless.sh",
    "/usr/bin/dockerd-rootless.sh",
)


class DockerError(Exception):
    """The docker command said no; the text is its stderr."""


@dataclass(frozen=True)
class Exec:
    """How a command inside a container ended."""

    rc: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.rc == 0


class Box:
    """One container."""

    def __init__(self, engine: Engine, id_: str, name: str) -> None:
        self.engine, self.id, self.name = engine, id_, name

    def inspect(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.engine.docker("inspect", self.id))
        return found[0]

    def pid(self) -> int:
        """The host's pid of its first process; 0 if it does not run."""
        return int(self.engine.docker("inspect", "--format", "{{.State.Pid}}", self.id))

    def exec(self, *command: str, user: str | None = None) -> Exec:
        """Run a command inside, as the container's own user unless told otherwise."""
        as_user = () if user is None else ("-u", user)
        done = self.engine.docker_process("exec", *as_user, self.id, *command)
        return Exec(done.returncode, done.stdout, done.stderr)

    def sh(self, script: str, user: str | None = None) -> Exec:
        return self.exec("sh", "-c", script, user=user)

    def exec_background(self, *command: str, user: str | None = None) -> None:
        """Leave a ``docker exec`` session running."""
        as_user = () if user is None else ("-u", user)
        self.engine.docker("exec", "-d", *as_user, self.id, *command)

    def wait(self) -> int:
        return int(self.engine.docker("wait", self.id))

    def pause(self) -> None:
        """Also where it forks all the time: cgroup v1's freezer gives up on a busy machine."""
        for left in reversed(range(10)):
            try:
                self.engine.docker("pause", self.id)
            except DockerError as e:
                if not left or "unable to freeze" not in str(e):
                    raise
            else:
                return

    def rm(self) -> None:
        self.engine.docker_process("rm", "-f", "-v", self.id)


class Engine:
    """One dockerd, started.  ``host`` is its endpoint."""

    def __init__(self, base: Path, tarball: Path) -> None:
        self.base, self.tarball = base, tarball
        self.socket = base / "docker.sock"
        self.host = f"unix://{self.socket}"
        self.data_root = base / "data"
        self.log = base / "dockerd.log"
        self._argv: Sequence[str] = ()
        self._process: subprocess.Popen[bytes] | None = None
        self._images: dict[tuple[str, ...], str] = {}
        self._numbers = itertools.count(1)

    # -- images and containers -------------------------------------------------------------

    def image(self, *changes: str, tarball: Path | None = None) -> str:
        """The lab's image with Dockerfile lines, such as ``"USER app"``; its name."""
        source = tarball or self.tarball
        key = (str(source), *changes)
        if key not in self._images:
            name = f"lab:{len(self._images) + 1}"
            lines = ("ENV PATH=/bin", 'CMD ["sleep","600"]', *changes)
            flags = [f for line in lines for f in ("--change", line)]
            self.docker("import", *flags, str(source), name)
            self._images[key] = name
        return self._images[key]

    def run(
        self, *options: str, image: str | None = None, command: Sequence[str] = (), name: str = ""
    ) -> Box:
        """``docker run -d OPTIONS IMAGE COMMAND``; raises :class:`DockerError`."""
        return self._make(("run", "-d"), options, image, command, name)

    def create(
        self, *options: str, image: str | None = None, command: Sequence[str] = (), name: str = ""
    ) -> Box:
        """``docker create``: a container that has not run yet."""
        return self._make(("create",), options, image, command, name)

    def _make(
        self,
        verb: Sequence[str],
        options: Sequence[str],
        image: str | None,
        command: Sequence[str],
        name: str,
    ) -> Box:
        name = name or f"box{next(self._numbers)}"
        id_ = self.docker(
            *verb, "--network=none", "--name", name, *options, image or self.image(), *command
        )
        return Box(self, id_.splitlines()[-1], name)

    def docker(self, *args: str) -> str:
        """The docker CLI against this engine; its stdout, stripped."""
        done = self.docker_process(*args)
        if done.returncode != 0:
            raise DockerError(done.stderr.strip())
        return done.stdout.strip()

    def docker_process(self, *args: str) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        env["DOCKER_CONFIG"] = str(self.base / "cli")
        argv = ["docker", "--host", self.host, *args]
        return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=60)

    # -- life ------------------------------------------------------------------------------

    def start(self, setup: str, command: Sequence[str]) -> None:
        """Run the shell lines ``setup`` in a new mount namespace, then become ``command``."""
        script = f"set -e\n{setup}\nexec {shlex.join(command)}"
        argv = ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", "--propagation", "slave"]
        self._argv = [*argv, "sh", "-c", script]
        self.revive()

    def revive(self) -> None:
        """Start it, or start it again after a :meth:`kill`, over the same data."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_")}
        env["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=log, env=env)
        self._await_ready()

    def kill(self, *, everything: bool = False) -> None:
        """-9 for the daemon; for everything: its shims and its containers, too, as when memory is
        short.
        """
        process = self._process
        assert process is not None
        process.kill()
        process.wait(10)
        if everything:
            self._kill_shims()
            shutil.rmtree(self.base / "exec", ignore_errors=True)
        (self.base / "pid").unlink(missing_ok=True)

    def _kill_shims(self) -> None:
        """-9 for what stands between a daemon and its containers (containerd-shim, conmon), and for
        the containers, which are its children.
        """
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                program, *args = (entry / "cmdline").read_bytes().split(b"\0")
                is_shim = b"shim" in program or b"conmon" in program
                if not is_shim or os.fsencode(self.base) + b"/" not in b" ".join(args):
                    continue
                children = (entry / "task" / entry.name / "children").read_text().split()
                for pid in (entry.name, *children):
                    os.kill(int(pid), signal.SIGKILL)

    def _await_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_SECONDS
        while not ping(str(self.socket)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                why = self._last_words()
                self.stop()
                raise MissingError(f"dockerd does not start here: {why}")
            time.sleep(0.02)

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        telling = [x for x in lines if "failed" in x or "rror" in x or "annot" in x]
        return " / ".join((telling or lines)[-2:])

    def stop(self) -> None:
        """Remove every container, end the daemon.  Its mounts end with its namespace."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            with contextlib.suppress(DockerError, subprocess.TimeoutExpired):
                ids = self.docker("ps", "-aq").split()
                if ids:
                    self.docker("rm", "-f", "-v", *ids)
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=5)
        self._kill_shims()
        shutil.rmtree(self.base, ignore_errors=True)


def ping(path: str) -> bool:
    """Whether an engine answers ``/_ping`` on a unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(20)
        try:
            s.connect(path)
        except OSError:
            return False
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = s
        try:
            connection.request("GET", "/_ping")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def start_docker(base: Path, tarball: Path, *flags: str, setup: str = "") -> Engine:
    """A rootful engine with ``base`` for everything it owns."""
    need_root()
    need_tools("dockerd", "containerd", "runc", "docker", "busybox", "unshare", "setpriv")
    base.mkdir(mode=0o755)
    engine = Engine(base, tarball)
    engine.start(
        setup,
        [
            "dockerd",
            f"--data-root={engine.data_root}",
            f"--exec-root={base / 'exec'}",
            f"--pidfile={base / 'pid'}",
            f"--host={engine.host}",
            *_QUIET,
            *flags,
        ],
    )
    return engine


def start_remapped(base: Path, tarball: Path, ranges: Sequence[tuple[int, int]]) -> Engine:
    """An engine with userns-remap for a user whose subuid and subgid are ``ranges``."""
    need_root()
    etc = base.with_name(base.name + "-etc")
    subids = "".join(f"dockremap:{first}:{count}\n" for first, count in ranges)
    setup = private_etc(etc, "dockremap:x:990:990::/:/bin/false", "dockremap:x:990:", subids)
    engine = start_docker(base, tarball, "--userns-remap=dockremap", setup=setup)
    first = ranges[0][0]
    engine.data_root = engine.data_root / f"{first}.{first}"
    return engine


ALICE = 1000
ALICE_SUBIDS = 100000


def start_rootless(base: Path, tarball: Path) -> Engine:
    """Rootless Docker as alice (1000:1000, subuid and subgid 100000:65536)."""
    need_root()
    need_tools("dockerd", "rootlesskit", "slirp4netns", "newuidmap", "docker", "setpriv")
    script = next((s for s in _ROOTLESS_SCRIPTS if os.access(s, os.X_OK)), None)
    if script is None:
        raise MissingError("needs dockerd-rootless.sh: apt-get install docker.io")
    base.mkdir(mode=0o755)
    for name in ("home", "run"):
        (base / name).mkdir(mode=0o700)
        os.chown(base / name, ALICE, ALICE)
    engine = Engine(base, tarball)
    engine.socket = base / "run" / "docker.sock"
    engine.host = f"unix://{engine.socket}"
    engine.data_root = base / "home" / "data"
    subids = f"alice:{ALICE_SUBIDS}:65536\n"
    setup = private_etc(
        base.with_name(base.name + "-etc"),
        f"alice:x:{ALICE}:{ALICE}::{base / 'home'}:/bin/sh",
        f"alice:x:{ALICE}:",
        subids,
    )
    setup += _private_devices(base / "dev")
    setup += f"export HOME={base / 'home'} XDG_RUNTIME_DIR={base / 'run'} USER=alice\ncd /\n"
    engine.start(
        setup,
        [
            *("setpriv", "--pdeathsig", "TERM", "--clear-groups"),
            *("--reuid", str(ALICE), "--regid", str(ALICE)),
            script,
            f"--data-root={engine.data_root}",
            f"--exec-root={base / 'run' / 'exec'}",
            *_QUIET,
        ],
    )
    return engine


def private_etc(where: Path, passwd_line: str, group_line: str, subids: str) -> str:
    """Shell lines that put files of our own over the host's accounts, for one daemon only."""
    where.mkdir(mode=0o755)
    accounts = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
    (where / "passwd").write_text(f"{accounts}{passwd_line}\n")
    (where / "group").write_text(f"root:x:0:\nnogroup:x:65534:\n{group_line}\n")
    (where / "subuid").write_text(subids)
    (where / "subgid").write_text(subids)
    lines = ""
    for name in ("passwd", "group", "subuid", "subgid"):
        lines += f"[ -e /etc/{name} ] || : > /etc/{name}\n"
        lines += f"mount --bind {where / name} /etc/{name}\n"
    return lines


def _private_devices(where: Path) -> str:
    """/dev/fuse and /dev/net/tun open to everybody, for one daemon only."""
    where.mkdir(mode=0o755)
    lines = f"mount -t tmpfs -o mode=755 tmpfs {where}\n"
    for name, path, minor in (("fuse", "/dev/fuse", 229), ("tun", "/dev/net/tun", 200)):
        lines += f"mknod -m 666 {where / name} c 10 {minor}\n"
        lines += f"[ -e {path} ] && mount --bind {where / name} {path}\n"
    return lines
