"""A busybox image without a registry: one tarball, imported with ``docker import --change``.

Its users are those of the acceptance cases; ``/root`` is 0700, as in most images.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

from tests.lab.needs import need_tools

PASSWD = b"""\
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/sh
app:x:1000:1000:app:/home/app:/bin/sh
model:x:1001:1001:model:/home/model:/bin/sh
jovyan:x:1002:100:jovyan:/home/jovyan:/bin/sh
labelstudio:x:1003:0:labelstudio:/label-studio:/bin/sh
grafana:x:472:0:grafana:/usr/share/grafana:/bin/sh
postgres:x:999:999:postgres:/var/lib/postgresql:/bin/sh
redis:x:70:70:redis:/data:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/sh
"""

GROUP = b"""\
root:x:0:
video:x:44:
www-data:x:33:app
users:x:100:
app:x:1000:
model:x:1001:
extra:x:1500:app
postgres:x:999:
redis:x:70:
nogroup:x:65534:
"""

DIRECTORIES = (
    # path, uid, gid, mode
    ("bin", 0, 0, 0o755),
    ("etc", 0, 0, 0o755),
    ("root", 0, 0, 0o700),
    ("tmp", 0, 0, 0o1777),
    ("var", 0, 0, 0o755),
    ("var/lib", 0, 0, 0o755),
    ("var/lib/postgresql", 999, 999, 0o700),
    ("app", 0, 0, 0o755),
    ("app/processing", 0, 0, 0o755),
    ("home", 0, 0, 0o755),
    ("home/app", 1000, 1000, 0o755),
    ("home/model", 1001, 1001, 0o755),
    ("home/jovyan", 1002, 100, 0o755),
    ("proc", 0, 0, 0o555),
    ("sys", 0, 0, 0o555),
    ("dev", 0, 0, 0o755),
    ("run", 0, 0, 0o755),
)


def build(path: Path, *, passwd: bytes | None = PASSWD, group: bytes | None = GROUP) -> Path:
    """Write the root filesystem's tarball; ``None`` leaves the file out (a distroless image)."""
    need_tools("busybox")
    listed = subprocess.run(["busybox", "--list"], check=True, capture_output=True, text=True)
    which = subprocess.run(["sh", "-c", "command -v busybox"], check=True, capture_output=True)
    with tarfile.open(path, "w") as tar:
        for name, uid, gid, mode in DIRECTORIES:
            tar.addfile(_member(name, tarfile.DIRTYPE, uid, gid, mode))
        with open(which.stdout.strip(), "rb") as busybox:
            binary = busybox.read()
        _add(tar, "bin/busybox", binary, 0o755)
        for applet in listed.stdout.split():
            if applet != "busybox":
                link = _member(f"bin/{applet}", tarfile.SYMTYPE, 0, 0, 0o777)
                link.linkname = "busybox"
                tar.addfile(link)
        for name, content in (("etc/passwd", passwd), ("etc/group", group)):
            if content is not None:
                _add(tar, name, content, 0o644)
    return path


def _member(name: str, kind: bytes, uid: int, gid: int, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.uid, info.gid, info.mode = kind, uid, gid, mode
    return info


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    info = _member(name, tarfile.REGTYPE, 0, 0, mode)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
