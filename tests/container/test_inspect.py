"""Inspect and info as our types; garbage gives empty values, never an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from permdoctor.container.container import Container, EngineInfo, MountKind, RequestedMount, State
from permdoctor.container.inspect import (
    absolute_path,
    container_from_inspect,
    engine_from_info,
    requested_mounts,
)

ENGINE = EngineInfo(endpoint="unix:///x")


@pytest.mark.parametrize(
    ("mounts", "host_config", "expected"),
    [
        pytest.param(
            [{"Type": "bind", "Source": "/src", "Destination": "/dst", "Mode": "ro,z",
              "RW": False}], {},
            RequestedMount(kind=MountKind.BIND, target=b"/dst", source=b"/src", read_only=True,
                           mode="ro,z"),
            id="bind",
        ),
        pytest.param(
            [{"Type": "volume", "Name": "v", "Source": "/d/v/_data", "Destination": "/dst",
              "RW": True, "Mode": "z"}],
            {"Mounts": [{"Type": "volume", "Source": "v", "Target": "/dst/",
                         "VolumeOptions": {"Subpath": "a/b"}}]},
            RequestedMount(kind=MountKind.VOLUME, target=b"/dst", source=b"/d/v/_data",
                           volume="v", subpath=b"a/b", mode="z"),
            id="volume with a subpath",
        ),
        pytest.param(
            [{"Type": "bind", "Source": "/src", "Destination": "/dst", "RW": True}],
            {"Mounts": [{"Type": "bind", "Source": "/src", "Target": "/dst",
                         "BindOptions": {"NonRecursive": True}}]},
            RequestedMount(kind=MountKind.BIND, target=b"/dst", source=b"/src",
                           nonrecursive=True),
            id="bind-nonrecursive",
        ),
        pytest.param(
            [], {"Mounts": [{"Type": "bind", "Source": "/s", "Target": "/d", "ReadOnly": True}]},
            RequestedMount(kind=MountKind.BIND, target=b"/d", source=b"/s", read_only=True),
            id="only in HostConfig",
        ),
        pytest.param(
            [], {"Tmpfs": {"/run/": "size=1m,ro"}},
            RequestedMount(kind=MountKind.TMPFS, target=b"/run", read_only=True,
                           mode="size=1m,ro"),
            id="tmpfs",
        ),
        pytest.param(
            [], {"Devices": [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/f",
                              "CgroupPermissions": "rm"}]},
            RequestedMount(kind=MountKind.DEVICE, target=b"/dev/f", source=b"/dev/fuse",
                           read_only=True, mode="rm"),
            id="device",
        ),
        pytest.param(
            [{"Type": "tmpfs", "Destination": "/t", "Source": "", "RW": True}], {},
            RequestedMount(kind=MountKind.TMPFS, target=b"/t"), id="--mount type=tmpfs",
        ),
        pytest.param(
            [{"Type": "npipe", "Destination": "/t", "Source": "/s"}], {},
            RequestedMount(kind=MountKind.OTHER, target=b"/t", source=b"/s"), id="unknown kind",
        ),
        pytest.param(
            [{"Source": "/s", "Destination": "/t"}], {},
            RequestedMount(kind=MountKind.BIND, target=b"/t", source=b"/s"), id="no type (old)",
        ),
    ],
)  # fmt: skip
def test_mounts(mounts: Any, host_config: Any, expected: RequestedMount) -> None:
    assert requested_mounts(mounts, host_config) == (expected,)


def test_mounts_are_sorted_and_joined() -> None:
    mounts = [
        {"Type": "bind", "Source": "/b", "Destination": "/a/b"},
        {"Type": "bind", "Source": "/a", "Destination": "/a"},
        {"Type": "bind", "Source": "/n", "Destination": "relative"},
        {"Type": "bind", "Source": "/n", "Destination": "/nul\0"},
    ]
    found = requested_mounts(mounts, {"Tmpfs": {"/a": ""}})
    assert [(m.target, m.kind) for m in found] == [
        (b"/a", MountKind.BIND),
        (b"/a/b", MountKind.BIND),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", b"/"),
        ("//a///b/", b"/a/b"),
        ("/a/./b/../c", b"/a/c"),
        ("/../..", b"/"),
        ("a", None),
        ("", None),
        (None, None),
        (7, None),
        ("/\ufffd", b"/\xef\xbf\xbd"),
    ],
)
def test_absolute_path(path: object, expected: bytes | None) -> None:
    assert absolute_path(path) == expected


@pytest.mark.parametrize(
    ("info", "version", "expected"),
    [
        pytest.param(
            {"ServerVersion": "20.10.24", "DockerRootDir": "/var/lib/docker",
             "SecurityOptions": ["name=seccomp,profile=default"]},
            {"ApiVersion": "1.41"},
            EngineInfo(endpoint="e", version="20.10.24", api_version="1.41",
                       data_root=b"/var/lib/docker"),
            id="plain",
        ),
        pytest.param(
            {"DockerRootDir": "/var/lib/docker/165536.231072",
             "SecurityOptions": ["name=userns", "name=selinux"]},
            {"ApiVersion": "1.56", "Version": "30"},
            EngineInfo(endpoint="e", version="30", api_version="1.56", selinux=True,
                       data_root=b"/var/lib/docker/165536.231072",
                       remapped_root=(165536, 231072), bind_idmap=True),
            id="userns-remap",
        ),
        pytest.param(
            {"DockerRootDir": "/srv/1.2", "SecurityOptions": None}, {},
            EngineInfo(endpoint="e", data_root=b"/srv/1.2"), id="a data root that looks like it",
        ),
        pytest.param(
            {"SecurityOptions": ["name=rootless"]}, {},
            EngineInfo(endpoint="e", rootless=True, rootless_uid=1000), id="rootless",
        ),
        pytest.param(
            {"BuildahVersion": "1.28", "Rootless": True}, {},
            EngineInfo(endpoint="e", product="podman", rootless=True, rootless_uid=1000),
            id="podman",
        ),
        pytest.param([], 7, EngineInfo(endpoint="e"), id="garbage"),
    ],
)  # fmt: skip
def test_engine(info: Any, version: Any, expected: EngineInfo) -> None:
    assert engine_from_info(info, version, "e", rootless_uid=1000) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("running", State.RUNNING),
        ("exited", State.EXITED),
        ("configured", State.CREATED),
        ("stopped", State.EXITED),
        ("tomorrow", State.UNKNOWN),
        (None, State.UNKNOWN),
    ],
)
def test_state(status: object, expected: State) -> None:
    assert container_from_inspect({"State": {"Status": status}}, ENGINE).state is expected


def test_configuration() -> None:
    container = container_from_inspect(
        {
            "Id": "abc",
            "Name": "/box",
            "RestartCount": 3,
            "State": {"Status": "exited", "Pid": 0, "ExitCode": 137, "Error": "no"},
            "Path": "sleep",
            "Args": ["600"],
            "Config": {
                "Image": "lab:1",
                "User": "app",
                "Env": ["A=1", "B=x=y", "C", "A=2"],
                "Labels": {"k": "v"},
            },
            "HostConfig": {
                "GroupAdd": ["44"],
                "CapAdd": ["cap_chown", "SYS_TIME"],
                "CapDrop": ["all"],
                "UsernsMode": "host",
                "ReadonlyRootfs": True,
            },
        },
        ENGINE,
    )
    assert container == Container(
        engine=ENGINE,
        id="abc",
        name="box",
        image="lab:1",
        state=State.EXITED,
        exit_code=137,
        error="no",
        restart_count=3,
        user="app",
        group_add=("44",),
        caps_added=("CHOWN", "SYS_TIME"),
        caps_dropped=("ALL",),
        userns_mode="host",
        read_only_rootfs=True,
        env=(("A", "1"), ("B", "x=y"), ("A", "2")),
        labels=(("k", "v"),),
        command=("sleep", "600"),
    )
    assert container.env_value("A") == "2"
    assert not container.running


FIELDS = (
    "Id", "Name", "Image", "State", "Status", "Pid", "Config", "HostConfig", "Mounts", "Env",
    "Labels", "User", "Type", "Source", "Destination", "Target", "RW", "Mode", "Tmpfs", "Devices",
    "PathOnHost", "PathInContainer", "CapAdd", "CapDrop", "GroupAdd", "VolumeOptions", "Subpath",
    "BindOptions", "SecurityOptions", "DockerRootDir", "ApiVersion", "WorkingDir", "Path", "Args",
)  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["/a", "bind", "name=userns", "/x/1.2", "\ud800", "\0"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), inner, max_size=6),
    max_leaves=30,
)  # fmt: skip


@given(json_values, json_values)
def test_any_json_is_survived(value: Any, other: Any) -> None:
    engine = engine_from_info(value, other, "e")
    for obj in (value, {"Config": value, "HostConfig": other, "Mounts": value, "State": other}):
        parsed = json.loads(json.dumps(obj))
        container = container_from_inspect(parsed, engine)
        texts = (container.id, container.name, container.user, container.error, container.image)
        pairs = (*container.env, *container.labels)
        for text in (*texts, *container.command, *(t for pair in pairs for t in pair)):
            text.encode("utf-8")  # no lone surrogate gets past the edge
        for mount in container.mounts:
            assert mount.target.startswith(b"/")
            assert b"\0" not in mount.target
