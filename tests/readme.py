"""The README's screens: every ``console`` block is run in a lab, and its output is real.

    python -m tests.readme          writes the outputs into README.md

The names and ids of the lab are replaced by those a reader would have.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab import engine as engines
from tests.lab.engine import Engine
from tests.lab.lab import Lab

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"```console\n# (?P<command>[^\n]+)\n(?P<output>.*?)```\n", re.DOTALL)
SOURCE = "/srv/models"


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


def run(command: str, engine: Engine, replace: dict[str, str]) -> str:
    """The command's output as a reader on an 80-column terminal's pipe gets it."""
    env = {
        **os.environ,
        "DOCKER_HOST": engine.host,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=env)
    assert not done.stderr, done.stderr
    text = done.stdout
    for real, shown in replace.items():
        text = text.replace(real, shown)
    return re.sub(r"sleep\[\d+\]", "sleep[4242]", text)


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
