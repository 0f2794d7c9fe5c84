"""A FUSE mount whose server never answers: the cheapest dead filesystem there is."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.needs import MissingError, need_root

_MNT_DETACH = 2


@contextmanager
def silent_fuse(path: str) -> Iterator[None]:
    """Mounted on ``path`` until the end; whoever waits for it then gets ENOTCONN."""
    need_root()
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        fd = os.open("/dev/fuse", os.O_RDWR)
    except OSError as e:
        raise MissingError(f"needs /dev/fuse: {e.strerror}") from e
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"silent", path.encode(), b"fuse", 0, options):
        code = ctypes.get_errno()
        os.close(fd)
        raise MissingError(f"cannot mount FUSE here: {os.strerror(code)}")
    try:
        yield
    finally:
        os.close(fd)
        libc.umount2(path.encode(), _MNT_DETACH)
