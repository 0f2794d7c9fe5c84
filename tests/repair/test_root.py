"""Where nothing is repaired: by name, and by what it is under another name."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from permdoctor.app.fix import fixing
from permdoctor.app.request import FixRequest
from permdoctor.config import Config, Repair
from permdoctor.errors import PermdoctorError, UsageError
from permdoctor.repair.options import Asked, CannotRepairError
from permdoctor.repair.root import open_root

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def refusal(path: str, asked: Asked | None = None) -> PermdoctorError:
    with pytest.raises(PermdoctorError) as caught:
        os.close(open_root(os.fsencode(path), asked=asked or Asked()).fd)
    return caught.value


@pytest.mark.parametrize(
    "path",
    ["/", "/etc", "/etc/ssl", "/usr", "/usr/local/lib/x", "/bin", "/boot", "/proc/1", "/sys",
     "/dev", "/run", "/run/user/0", "/home", "/root", "/var/lib", "/tmp", "/var/lib/docker",
     "/var/lib/docker/overlay2/x", "/var/lib/containerd/x"],
)  # fmt: skip
def test_the_hosts_own_places(path: str) -> None:
    assert isinstance(refusal(path), UsageError)


@pytest.fixture
def alias(tmp_path: Path) -> Iterator[Path]:
    """/etc, under another name."""
    place = tmp_path / "innocent"
    place.mkdir()
    subprocess.run(["mount", "--bind", "/etc", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@ROOT
@pytest.mark.parametrize("below", ["", "ssl"])
def test_a_bind_mount_of_etc_is_still_etc(alias: Path, below: str) -> None:
    error = refusal(str(alias / below).rstrip("/"))
    assert isinstance(error, UsageError)
    assert "/etc" in error.message


@ROOT
@ROOT
def test_what_the_policy_denies_is_denied_by_another_name(
    tmp_path: Path, alias: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none")
    secret = tmp_path / "secret"
    (secret / "below").mkdir(parents=True)
    subprocess.run(["umount", alias], check=True)
    subprocess.run(["mount", "--bind", secret, alias], check=True)
    rules = Repair(roots=(str(tmp_path),), deny=(str(secret),), state=str(tmp_path / "state"))
    request = FixRequest(
        path=bytes(alias / "below"), to=(7777, 7777), config=Config(repair=rules), apply=True
    )
    with pytest.raises(UsageError, match=r"lies in, .*secret"), fixing(request):
        pass


def test_an_engines_volumes_are_the_users(tmp_path: Path) -> None:
    """But not what lies beside them, under whatever name."""
    place = tmp_path / "root"
    volume = place / "volumes" / "v" / "_data"
    volume.mkdir(parents=True)
    asked = Asked(protected=(os.fsencode(place / "secret"),))
    (place / "secret" / "x").mkdir(parents=True)
    held = open_root(os.fsencode(volume), asked=asked)
    os.close(held.fd)
    assert "secret" in refusal(str(place / "secret" / "x"), asked).message


def test_a_home_directory_itself() -> None:
    home = next((a.pw_dir for a in pwd.getpwall() if os.path.realpath(a.pw_dir) == "/root"), None)
    if home is None:
        pytest.skip("no account lives in /root")
    assert isinstance(refusal("/root"), UsageError)


def test_a_symlink_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    for path in ("link", "link/below"):
        error = refusal(str(tmp_path / path))
        assert isinstance(error, CannotRepairError)
        assert "symlink" in error.message


@pytest.mark.parametrize("path", ["relative", "/tmp/../etc", "/tmp/./x"])
def test_only_clean_absolute_paths(path: str) -> None:
    assert isinstance(refusal(path), UsageError)


def test_neither_sockets_nor_fifos(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "never changed" in (refusal(str(tmp_path / "fifo")).hint or "")


def test_not_what_somebody_saw_there(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path)
    status = tmp_path.stat()
    held = open_root(path, expected=(status.st_dev, status.st_ino), asked=Asked())
    os.close(held.fd)
    with pytest.raises(CannotRepairError, match="not what the container has there"):
        open_root(path, expected=(status.st_dev, status.st_ino + 1), asked=Asked())


@ROOT
def test_overlay_only_by_force(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    merged = str(tmp_path / "merged")
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", merged], check=True)
    try:
        error = refusal(merged)
        assert isinstance(error, CannotRepairError)
        assert "--force" in (error.hint or "")
        os.close(open_root(os.fsencode(merged), asked=Asked(force=True)).fd)
    finally:
        subprocess.run(["umount", merged], check=True)
