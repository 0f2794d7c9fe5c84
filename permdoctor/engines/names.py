"""What is said where a name fits no container, or several, or one that has just gone."""

from __future__ import annotations

from permdoctor.engines import ContainerGoneError, NoSuchContainerError
from permdoctor.engines.transport import AnsweredError
from permdoctor.errors import CannotCheckError
from permdoctor.kernel.text import printable


def unknown(endpoint: str, name: str, names: list[str]) -> NoSuchContainerError:
    """No container of the engine is called so; the hint is which of ``names`` may be meant."""
    near = near_names(name, names)
    shown = f"{printable(endpoint)}: no container is called {printable(name) or repr(name)}"
    if not near:
        return NoSuchContainerError(shown, hint="`docker ps -a` lists them")
    listed = ", ".join(printable(n) for n in near)
    return NoSuchContainerError(shown, hint=f"did you mean {listed}?")


def near_names(name: str, names: list[str]) -> list[str]:
    """Up to three names that may have been meant: those that contain it, then the similar."""
    from difflib import get_close_matches

    wanted = name.lower()
    containing = sorted((n for n in names if wanted and wanted in n.lower()), key=len)
    similar = get_close_matches(name, names, n=3, cutoff=0.6)
    return list(dict.fromkeys([*containing, *similar]))[:3]


def ambiguous(name: str, candidates: tuple[str, ...]) -> NoSuchContainerError:
    shown = ", ".join(printable(c) for c in candidates[:5])
    return NoSuchContainerError(
        f"{printable(name)} is the beginning of {len(candidates)} container ids: {shown}",
        hint="give the name, or more of the id",
    )


def gone(container_id: str, e: AnsweredError) -> CannotCheckError:
    """The answer to a question about a container that was there; ``e`` itself if it still is."""
    if e.status not in (404, 409):
        return e
    return ContainerGoneError(
        f"container {printable(container_id[:12])} is gone: it was removed or stopped meanwhile",
        hint="check again; `docker ps -a` lists what is there",
    )
