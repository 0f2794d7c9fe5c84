"""The README's screens: every ``console`` block is run in a lab, and its output is real.

    python -m tests.readme          writes the outputs into README.md

The names and ids of the lab are replaced by those a reader would have.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import engine as engines
from tests.lab.engine import Engine
from tests.lab.lab import Lab

README = Path(__file__).parent.parent / "README.md"
SHELL = [
    line.partition("   #")[0].rstrip()
    for block in re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    for line in block.splitlines()
]
MAKING = [c for c in SHELL if c.startswith("make ")]
INSTALLING = [c for c in SHELL if c.startswith(("pipx ", "uv "))]
BLOCK = re.compile(r"```console\n# (?P<command>[^\n]+)\n(?P<output>.*?)```\n", re.DOTALL)
SOURCE = "/srv/models"
ID = re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b")
TIME = re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ")

SINCE = re.compile(r"\bfor \d+ s, since \S+ \S+ UTC")

SERVE = """
permdoctor serve > "$STATE/log" 2>&1 & echo $! > "$STATE/pid"
for n in $(seq 600); do
    permdoctor findings > "$STATE/found" 2>&1 || test $? != 1 || break; sleep 0.1
done
"""
"""A service that has found something."""

STOP = 'kill $(cat "$STATE/pid")'

APPLY, UNDO = "permdoctor fix trainer --apply --yes", "permdoctor undo --last --yes"
AROUND = {
    APPLY: ("true", UNDO),
    UNDO: (APPLY, "true"),
    "permdoctor history": (f"{APPLY} && {UNDO}", "true"),
    "permdoctor findings": (SERVE, STOP),
}
"""What is run before and after a screen that changes something or shows what was changed: each
screen finds the scene as it was, with a history of its own.
"""


@contextmanager
def scene(lab: Lab, engine: Engine) -> Iterator[dict[str, str]]:
    """The containers that the README speaks of.  Yields what to replace in outputs."""
    models, own = lab.directory(), lab.directory(4242, 4242)
    boxes = [
        engine.run("-u", "1001:1001", "-v", f"{models}:/app/model", name="trainer"),
        engine.run("-u", "4242:4242", "-v", f"{own}:/data", name="notebook"),
    ]
    try:
        yield {str(models): SOURCE, str(own): "/srv/notebooks"}
    finally:
        for box in boxes:
            box.rm()


def environment(engine: Engine, state: Path, root: str = "/") -> dict[str, str]:
    """Of a reader who has one engine, and a configuration that allows repair below ``root``."""
    config = state / "config.toml"
    config.write_text(
        f'[repair]\nstate = "{state}/state"\nroots = ["{root}"]\n'
        f'[service]\nsocket = "{state}/status.sock"\n[metrics]\nlisten = ""\n'
    )
    config.chmod(0o600)
    return {
        **os.environ,
        "DOCKER_HOST": engine.host,
        "PERMDOCTOR_CONFIG": str(config),
        "STATE": str(state),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def run(command: str, engine: Engine, replace: dict[str, str]) -> str:
    """The command's output as a reader on an 80-column terminal's pipe gets it, whose host has no
    names for the ids of the scene.
    """
    before, after = AROUND.get(command, ("true", "true"))
    with tempfile.TemporaryDirectory() as state:
        source = next(real for real, shown in replace.items() if shown == SOURCE)
        env = environment(engine, Path(state), source)
        shell = _with_few_accounts(Path(state) / "etc")
        quiet = {"capture_output": True, "check": True, "env": env}
        subprocess.run([*shell, before], **quiet)
        done = subprocess.run([*shell, command], capture_output=True, text=True, env=env)
        subprocess.run([*shell, after], **quiet)
    assert not done.stderr, done.stderr
    text = done.stdout
    for real, shown in replace.items():
        text = text.replace(real, shown)
    text = re.sub(r"sleep\[\d+\]", "sleep[4242]", text)
    text = SINCE.sub("for 3 min, since 2026-11-22 05:12:05 UTC", text)
    return TIME.sub("2026-11-22 05:12:05Z", _with_ids(text))


def _with_few_accounts(etc: Path) -> list[str]:
    """A shell whose /etc names nobody but root and reader (1000:1000)."""
    accounts = engines.private_etc(etc, "reader:x:1000:1000::/:/bin/sh", "reader:x:1000:", "")
    script = f'set -e\n{accounts}exec bash -c "$1"'
    return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", script, "sh"]


def _with_ids(text: str) -> str:
    """The ids of repairs in their order: 3f2a, 9c41."""
    for real, shown in zip(dict.fromkeys(ID.findall(text)), ("3f2a", "9c41"), strict=False):
        text = text.replace(real, f"20261122-051205-{shown}")
    return text


def rendered(text: str, engine: Engine, replace: dict[str, str]) -> str:
    """The README with every screen made anew."""

    def block(m: re.Match[str]) -> str:
        output = run(m["command"], engine, replace)
        return f"```console\n# {m['command']}\n{output}```\n"

    return BLOCK.sub(block, text)


def main() -> None:
    lab = Lab().open()
    engine = engines.start_docker(lab.root / "plain", lab.image)
    try:
        with scene(lab, engine) as replace:
            README.write_text(rendered(README.read_text(), engine, replace))
    finally:
        engine.stop()
        lab.close()


if __name__ == "__main__":
    main()
