"""The Engine API's JSON as our types: ``/containers/ID/json``, ``/info``, ``/version``.

Total over anything JSON can hold: a missing or odd-typed field gives an empty or UNKNOWN value,
never an error, because versions, Podman and proxies differ.  Which field says what (and which
are absent) is documented beside each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec.structs import replace

from permdoctor.container.container import (
    Container,
    EngineInfo,
    MountKind,
    RequestedMount,
    State,
)
from permdoctor.container.needs import clean_path

Json = Mapping[str, Any]

BIND_IDMAP_API: Final = (1, 56)
"""The first API version with ``--mount type=bind,bind-idmap``."""

_PODMAN_STATES: Final = {
    "configured": State.CREATED,
    "initialized": State.CREATED,
    "stopping": State.RUNNING,
    "stopped": State.EXITED,
}
_REMAPPED_ROOT: Final = re.compile(r"/([0-9]{1,10})\.([0-9]{1,10})/?\Z")


def engine_from_info(
    info: object, version: object, endpoint: str, *, rootless_uid: int | None = None
) -> EngineInfo:
    """``/info`` joined with ``/version`` (or the same fields of ``/_ping``).

    ``rootless_uid`` is the host uid behind the socket, kept only if the engine is rootless.
    """
    facts, ver = _mapping(info), _mapping(version)
    options = _strings(facts.get("SecurityOptions"))
    names = {part for o in options for part in o.split(",") if part.startswith("name=")}
    data_root = text_of(facts.get("DockerRootDir"))
    rootless = "name=rootless" in names or facts.get("Rootless") is True
    tail = _REMAPPED_ROOT.search(data_root) if "name=userns" in names else None
    api = text_of(ver.get("ApiVersion"))
    return EngineInfo(
        endpoint=endpoint,
        product="podman" if "BuildahVersion" in facts else "docker",
        version=text_of(facts.get("ServerVersion")) or text_of(ver.get("Version")),
        api_version=api,
        data_root=_path(data_root),
        remapped_root=(int(tail[1]), int(tail[2])) if tail else None,
        id=text_of(facts.get("ID")),
        rootless=rootless,
        rootless_uid=rootless_uid if rootless else None,
        selinux="name=selinux" in names,
        bind_idmap=version_tuple(api) >= BIND_IDMAP_API,
    )


def version_tuple(api: str) -> tuple[int, int]:
    """``"1.41"`` as ``(1, 41)``; ``(0, 0)`` for what is no API version."""
    match = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", api)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def container_from_inspect(
    obj: object, engine: EngineInfo, *, exec_pids: tuple[int, ...] = ()
) -> Container:
    """One container, as ``/containers/ID/json`` describes it."""
    top = _mapping(obj)
    config, host = _mapping(top.get("Config")), _mapping(top.get("HostConfig"))
    state = _mapping(top.get("State"))
    pid = number_of(state.get("Pid")) or 0
    return Container(
        engine=engine,
        id=text_of(top.get("Id")),
        name=text_of(top.get("Name")).removeprefix("/"),
        image=text_of(config.get("Image")) or text_of(top.get("ImageName")),
        state=state_word(state.get("Status")),
        pid=pid if pid > 0 else None,
        exit_code=number_of(state.get("ExitCode")),
        error=text_of(state.get("Error")),
        restart_count=number_of(top.get("RestartCount")) or 0,
        user=text_of(config.get("User")),
        group_add=_strings(host.get("GroupAdd")),
        caps_added=_caps(host.get("CapAdd")),
        caps_dropped=_caps(host.get("CapDrop")),
        privileged=host.get("Privileged") is True,
        userns_mode=text_of(host.get("UsernsMode")),
        read_only_rootfs=host.get("ReadonlyRootfs") is True,
        env=env_pairs(_strings(config.get("Env"))),
        labels=label_pairs(config.get("Labels")),
        command=(text_of(top.get("Path")), *_strings(top.get("Args"))),
        mounts=requested_mounts(top.get("Mounts"), host),
        exec_pids=exec_pids,
        started=text_of(state.get("StartedAt")),
    )


def env_pairs(lines: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """``NAME=value`` lines; a line without ``=`` sets nothing."""
    split = (line.partition("=") for line in lines)
    return tuple((name, value) for name, equals, value in split if equals and name)


def label_pairs(labels: object) -> tuple[tuple[str, str], ...]:
    """A mapping of labels, in its order."""
    return tuple((text_of(k), text_of(v)) for k, v in _mapping(labels).items())


def requested_mounts(mounts: object, host_config: object) -> tuple[RequestedMount, ...]:
    """Everything that was asked to be mounted, sorted by target.

    ``Mounts`` has binds and volumes as they were resolved.  Only HostConfig has tmpfs, devices,
    and the options bind-nonrecursive and volume-subpath.
    """
    host = _mapping(host_config)
    found: dict[bytes, RequestedMount] = {}
    for mount in _mounts(mounts):
        found[mount.target] = mount
    for mount in _host_config_mounts(host.get("Mounts")):
        known = found.get(mount.target)
        found[mount.target] = (
            mount
            if known is None
            else replace(known, subpath=mount.subpath, nonrecursive=mount.nonrecursive)
        )
    for mount in (*_tmpfs(host.get("Tmpfs")), *_devices(host.get("Devices"))):
        found.setdefault(mount.target, mount)
    return tuple(found[t] for t in sorted(found))


def _mounts(value: object) -> Iterator[RequestedMount]:
    for m in _mappings(value):
        target = absolute_path(m.get("Destination"))
        if target is None:
            continue
        kind = _kind(m.get("Type"), m)
        yield RequestedMount(
            kind=kind,
            target=target,
            source=None if kind is MountKind.TMPFS else _path(text_of(m.get("Source"))) or None,
            read_only=m.get("RW") is False,
            volume=(text_of(m.get("Name")) or None) if kind is MountKind.VOLUME else None,
            mode=text_of(m.get("Mode")),
        )


def _host_config_mounts(value: object) -> Iterator[RequestedMount]:
    for m in _mappings(value):
        target = absolute_path(m.get("Target"))
        if target is None:
            continue
        kind = _kind(m.get("Type"), m)
        source = text_of(m.get("Source"))
        subpath = text_of(_mapping(m.get("VolumeOptions")).get("Subpath"))
        yield RequestedMount(
            kind=kind,
            target=target,
            source=_path(source) if kind is MountKind.BIND and source else None,
            read_only=m.get("ReadOnly") is True,
            volume=(source or None) if kind is MountKind.VOLUME else None,
            subpath=_path(subpath) or None,
            nonrecursive=_mapping(m.get("BindOptions")).get("NonRecursive") is True,
        )


def _tmpfs(value: object) -> Iterator[RequestedMount]:
    for path, options in _mapping(value).items():
        target = absolute_path(path)
        if target is not None:
            mode = text_of(options)
            read_only = "ro" in mode.split(",")
            yield RequestedMount(
                kind=MountKind.TMPFS, target=target, read_only=read_only, mode=mode
            )


def _devices(value: object) -> Iterator[RequestedMount]:
    for d in _mappings(value):
        source = absolute_path(d.get("PathOnHost"))
        target = absolute_path(d.get("PathInContainer")) or source
        if source is None or target is None:
            continue
        allowed = text_of(d.get("CgroupPermissions")) or "rwm"
        yield RequestedMount(
            kind=MountKind.DEVICE,
            target=target,
            source=source,
            read_only="w" not in allowed,
            mode=allowed,
        )


def _kind(value: object, mount: Json) -> MountKind:
    try:
        return MountKind(text_of(value))
    except ValueError:
        if value in (None, ""):
            return MountKind.VOLUME if mount.get("Name") else MountKind.BIND
        return MountKind.OTHER


def state_word(value: object) -> State:
    """``State.Status`` of inspect or ``State`` of a list; Podman has words of its own."""
    word = text_of(value).lower()
    try:
        return State(word)
    except ValueError:
        return _PODMAN_STATES.get(word, State.UNKNOWN)


def _caps(value: object) -> tuple[str, ...]:
    return tuple(c.upper().removeprefix("CAP_") for c in _strings(value))


def _mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _mappings(value: object) -> Iterator[Json]:
    return (m for m in value if isinstance(m, dict)) if isinstance(value, list) else iter(())


def text_of(value: object) -> str:
    """A string; the lone surrogates that JSON can smuggle in become ``?``."""
    if not isinstance(value, str):
        return ""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


def _strings(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (text_of(value),)
    return tuple(text_of(s) for s in value if isinstance(s, str)) if isinstance(value, list) else ()


def number_of(value: object) -> int | None:
    """A number as Go has it, in 64 bits."""
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if -(1 << 63) <= value < 1 << 63 else None


def _path(text: str) -> bytes:
    """As bytes; nothing that cannot be a path (a NUL inside)."""
    return b"" if "\0" in text else text.encode("utf-8", "surrogateescape")


def absolute_path(value: object) -> bytes | None:
    """A clean absolute path, as Go's ``filepath.Clean`` makes it; ``None`` for anything else."""
    path = _path(text_of(value))
    return clean_path(path) if path.startswith(b"/") else None
