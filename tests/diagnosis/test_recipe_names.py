"""The configuration knows what the recipes are called, and is a layer below them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import permdoctor.diagnosis
from permdoctor.config.values import UnaskedRemedy
from permdoctor.diagnosis import future, recipes, world_writable


def recipe_types() -> set[str]:
    """Every recipe that is made for a finding."""
    modules = (recipes, future, world_writable)
    types = [t for m in modules for t in vars(m).values() if isinstance(t, type)]
    return {t.__name__ for t in types if issubclass(t, recipes.Recipe)}


def names_given() -> Iterator[str]:
    """``name=`` of each recipe that the source makes."""
    types = recipe_types()
    for file in Path(permdoctor.diagnosis.__path__[0]).rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in types:
                (name,) = (k.value for k in call.keywords if k.arg == "name")
                yield from (
                    n.value
                    for n in ast.walk(name)
                    if isinstance(n, ast.Constant) and isinstance(n.value, str)
                )


def test_every_recipe_can_be_configured() -> None:
    assert set(names_given()) == set(get_args(UnaskedRemedy))
