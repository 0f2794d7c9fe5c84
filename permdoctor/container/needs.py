"""What is needed of which path, and who said so.

Default: a writable mount is to be read and written, a read-only one to be read.  The
configuration, the label ``permdoctor.need.PATH`` and ``--need`` change that, in this order.
Environment variables that name a cache, log or temporary path ask more quietly: nobody has used
them yet.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from permdoctor.container.container import Container


class Need(StrEnum):
    """``own`` includes write and adds chmod/chown (as initdb does); ``none`` silences a path."""

    NONE = "none"
    READ = "read"
    WRITE = "write"
    OWN = "own"


class NeedSource(StrEnum):
    """Who asked.  In this order the later one wins."""

    DEFAULT = "default"
    HOME = "home"
    ENVIRONMENT = "environment"
    CONFIG = "config"
    LABEL = "label"
    OPTION = "option"

    @property
    def asked(self) -> bool:
        """Whether a person asked for it, so that its refusal is an error anywhere."""
        return self in (NeedSource.CONFIG, NeedSource.LABEL, NeedSource.OPTION)


class PathNeed(Struct, frozen=True, kw_only=True):
    """``path`` is absolute inside the container.  ``via`` names the variable, label or option."""

    path: bytes
    need: Need
    source: NeedSource
    via: str = ""


LABEL_PREFIX = "permdoctor.need."

PATH_VARIABLES = {
    "HF_HOME": Need.WRITE,
    "HF_HUB_CACHE": Need.WRITE,
    "HUGGINGFACE_HUB_CACHE": Need.WRITE,
    "HF_DATASETS_CACHE": Need.WRITE,
    "TRANSFORMERS_CACHE": Need.WRITE,
    "SENTENCE_TRANSFORMERS_HOME": Need.WRITE,
    "TORCH_HOME": Need.WRITE,
    "TORCHINDUCTOR_CACHE_DIR": Need.WRITE,
    "TORCH_EXTENSIONS_DIR": Need.WRITE,
    "TRITON_CACHE_DIR": Need.WRITE,
    "VLLM_CACHE_ROOT": Need.WRITE,
    "VLLM_CONFIG_ROOT": Need.WRITE,
    "CUDA_CACHE_PATH": Need.WRITE,
    "OLLAMA_MODELS": Need.WRITE,
    "KERAS_HOME": Need.WRITE,
    "NUMBA_CACHE_DIR": Need.WRITE,
    "WANDB_DIR": Need.WRITE,
    "WANDB_CACHE_DIR": Need.WRITE,
    "MLFLOW_ARTIFACT_ROOT": Need.WRITE,
    "MPLCONFIGDIR": Need.WRITE,
    "JUPYTER_DATA_DIR": Need.WRITE,
    "JUPYTER_RUNTIME_DIR": Need.WRITE,
    "IPYTHONDIR": Need.WRITE,
    "PIP_CACHE_DIR": Need.WRITE,
    "UV_CACHE_DIR": Need.WRITE,
    "npm_config_cache": Need.WRITE,
    "XDG_CACHE_HOME": Need.WRITE,
    "XDG_DATA_HOME": Need.WRITE,
    "XDG_STATE_HOME": Need.WRITE,
    "XDG_RUNTIME_DIR": Need.WRITE,
    "TMPDIR": Need.WRITE,
    "PGDATA": Need.OWN,
}
"""Variables by which well-known programs find the directories they write.  PGDATA must be owned:
initdb changes its mode."""

HOME_CACHE = b".cache"
"""What follows from HOME alone (XDG base directories): ``$HOME/.cache``."""


def clean_path(path: bytes) -> bytes:
    """An absolute path without ``.``, ``..`` and doubled slashes, symlinks not looked at."""
    return posixpath.normpath(b"/" + path.lstrip(b"/"))


def asked_needs(
    container: Container,
    configured: Iterable[PathNeed] = (),
    options: Iterable[tuple[bytes, Need]] = (),
) -> tuple[PathNeed, ...]:
    """What people asked for, one need a path; option beats label beats configuration."""
    needs: dict[bytes, PathNeed] = {}
    for need in configured:
        needs[need.path] = need
    for key, value in container.labels:
        if key.startswith(LABEL_PREFIX + "/") and value in tuple(Need):
            path = clean_path(key.removeprefix(LABEL_PREFIX).encode("utf-8", "surrogateescape"))
            needs[path] = PathNeed(
                path=path, need=Need(value), source=NeedSource.LABEL, via=f"label {key}"
            )
    for path, wanted in options:
        cleaned = clean_path(path)
        needs[cleaned] = PathNeed(path=cleaned, need=wanted, source=NeedSource.OPTION, via="--need")
    return tuple(needs.values())


def bad_labels(container: Container) -> tuple[tuple[str, str], ...]:
    """Need labels whose value is no need: the person who wrote them must hear of it."""
    return tuple(
        (k, v)
        for k, v in container.labels
        if k.startswith(LABEL_PREFIX)
        and (v not in tuple(Need) or not k.startswith(LABEL_PREFIX + "/"))
    )


def environment_needs(container: Container, home: bytes | None) -> tuple[PathNeed, ...]:
    """Paths that the environment points to.  ``home`` is what HOME will be, inside.

    A relative value is left out: it depends on where the program stands.
    """
    needs: dict[bytes, PathNeed] = {}
    for name, need in PATH_VARIABLES.items():
        value = (container.env_value(name) or "").encode("utf-8", "surrogateescape")
        if value.startswith(b"/") and clean_path(value) not in needs:
            path = clean_path(value)
            needs[path] = PathNeed(path=path, need=need, source=NeedSource.ENVIRONMENT, via=name)
    cache_named = container.env_value("XDG_CACHE_HOME") is not None
    if home is not None and home.startswith(b"/") and not cache_named:
        path = clean_path(home + b"/" + HOME_CACHE)
        needs.setdefault(
            path, PathNeed(path=path, need=Need.WRITE, source=NeedSource.HOME, via="HOME")
        )
    return tuple(needs.values())


def default_need(path: bytes, read_only: bool) -> PathNeed:
    """Of a mount that nobody said anything about."""
    need = Need.READ if read_only else Need.WRITE
    return PathNeed(path=path, need=need, source=NeedSource.DEFAULT)
