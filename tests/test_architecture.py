"""The house: what may import what, and that nothing but ``repair/`` changes a file."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "permdoctor"
MODULES = sorted(PACKAGE.rglob("*.py"))

PURE = ("kernel", "container", "diagnosis", "render")

CHANGING_CALLS = {
    *("chown", "lchown", "fchown", "fchownat"),
    *("chmod", "lchmod", "fchmod", "fchmodat", "fchmodat2"),
    *("setxattr", "lsetxattr", "fsetxattr", "setxattrat"),
    *("removexattr", "lremovexattr", "fremovexattr", "removexattrat"),
}


def test_import_contracts_hold() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def changing_calls(source: str, *, pure: bool = False) -> Iterator[str]:
    """Calls and names of functions that change a file's owner, mode or attributes.

    ``kernel/operations.py`` and others have pure functions of the same names: what comes from a
    module of ours (which is looked at too) or is bound in this one is no system call.  In a
    package that cannot reach the system at all (``pure``, which the import contracts hold) a text
    is only a text.
    """
    tree = ast.parse(source)
    ours = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("permdoctor."):
            ours |= {alias.asname or alias.name for alias in node.names}
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            ours.add(node.id)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                found = name if owner not in ours else ""
            case ast.Attribute(attr=name):
                found = name
            case ast.Constant(value=str(name)) if not pure:
                found = name
            case ast.Name(id=name) | ast.alias(name=name):
                found = name if name not in ours else ""
            case _:
                continue
        if found in CHANGING_CALLS:
            yield f"line {getattr(node, 'lineno', '?')}: {found}"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("import os\nos.chown('x', 0, 0)", id="os"),
        pytest.param("from os import fchmod\nfchmod(3, 0)", id="imported name"),
        pytest.param("from os import chown as own\nown('x', 0, 0)", id="imported as another"),
        pytest.param("import os\nf = os.chmod\nf('x', 0)", id="a reference is enough"),
        pytest.param("libc.fchownat(-1, b'x', 0, 0, 0)", id="ctypes attribute"),
        pytest.param("libc['lsetxattr'](b'x')", id="ctypes item"),
        pytest.param("getattr(os, 'chmod')('x', 0)", id="getattr"),
        pytest.param("path.parent.chmod(0o777)", id="pathlib"),
    ],
)
def test_a_changing_call_is_seen(source: str) -> None:
    assert list(changing_calls(source))


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("from permdoctor.kernel import operations\noperations.chmod(c, i, m)", id="a"),
        pytest.param("from permdoctor.kernel.operations import chown\nchown(c, i, m)", id="b"),
        pytest.param("chmod = remedy()\nuse(chmod)", id="a variable"),
        pytest.param("title = 'chown the directory'", id="a sentence"),
    ],
)
def test_the_model_may_have_the_names(source: str) -> None:
    assert not list(changing_calls(source))


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(m, id=str(m.relative_to(ROOT)))
        for m in MODULES
        if not m.is_relative_to(PACKAGE / "repair")
    ],
)
def test_nothing_is_changed_outside_repair(module: Path) -> None:
    pure = module.relative_to(PACKAGE).parts[0] in PURE
    assert list(changing_calls(module.read_text("utf-8"), pure=pure)) == []


@pytest.mark.parametrize("name", ["__init__.py", "__main__.py", "cli/__init__.py"])
def test_an_old_python_can_parse_the_entrance(name: str) -> None:
    """So that it gets a sentence, not a SyntaxError."""
    source = (PACKAGE / name).read_text("utf-8")
    tree = ast.parse(source, feature_version=(3, 6))
    futures = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    assert not futures, "annotations are a future that Python 3.6 does not know"


def test_every_folder_of_modules_is_a_package() -> None:
    """setuptools would leave another one out."""
    folders = {m.parent for m in MODULES}
    assert [str(f) for f in folders if not (f / "__init__.py").exists()] == []


@pytest.mark.parametrize("module", [pytest.param(m, id=str(m.relative_to(ROOT))) for m in MODULES])
def test_a_module_says_what_it_is(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text("utf-8")))
