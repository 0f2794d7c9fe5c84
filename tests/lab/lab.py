"""The lab: one directory that everything a test session makes lives under.

The directory is a shared mount, so that the daemons' namespaces see what tests mount in it
later.  It can be reached by every uid, unlike pytest's own temporary directories.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.lab import image
from tests.lab.filesystems import mounted_fs
from tests.lab.needs import need_root


class Lab:
    """``root`` is its directory, from ``open()`` until ``close()``."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count(1)
        self._mounted: dict[str, str] = {}
        self._tarball: Path | None = None
        self.root = Path()

    def open(self) -> Lab:
        """Make the directory and return self.  Raises ``MissingError`` for anybody but root."""
        need_root()
        self.root = Path(tempfile.mkdtemp(prefix="pd-"))
        self._stack.callback(shutil.rmtree, self.root, ignore_errors=True)
        os.chmod(self.root, 0o755)
        subprocess.run(["mount", "--bind", self.root, self.root], check=True)
        self._stack.callback(self._unmount_all)
        subprocess.run(["mount", "--make-rshared", self.root], check=True)
        return self

    def close(self) -> None:
        """Unmount and remove everything."""
        self._stack.close()

    @property
    def image(self) -> Path:
        """The tarball of the busybox image, built at its first use."""
        if self._tarball is None:
            self._tarball = image.build(self.root / "image.tar")
        return self._tarball

    def directory(self, uid: int = 0, gid: int = 0, mode: int = 0o755, *, name: str = "") -> Path:
        """A fresh directory of this owner and mode, below directories that all may search."""
        parent = self.root / f"scene{next(self._numbers)}"
        parent.mkdir(mode=0o755)
        path = parent / (name or "data")
        path.mkdir()
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        return path

    def file(
        self, uid: int = 0, gid: int = 0, mode: int = 0o644, content: bytes = b"", name: str = ""
    ) -> Path:
        """A fresh file of this owner and mode."""
        path = self.directory() / (name or "file")
        path.write_bytes(content)
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        return path

    def fs(self, kind: str) -> Path:
        """A fresh directory on a filesystem of this kind, mounted once a session."""
        if kind not in self._mounted:
            mount = mounted_fs(kind, parent=str(self.root))
            self._mounted[kind] = self._stack.enter_context(mount)
        path = Path(self._mounted[kind]) / f"d{next(self._numbers)}"
        path.mkdir(mode=0o755)
        return path

    def _unmount_all(self) -> None:
        subprocess.run(["umount", "-R", self.root], capture_output=True)
        if os.path.ismount(self.root):
            subprocess.run(["umount", "-R", "-l", self.root], check=True)
