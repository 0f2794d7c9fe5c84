"""Filesystem types by who decides on them, by the name mountinfo gives.

Where a server or a daemon decides, mode bits are not the last word; where ownership is made up,
chown is not the remedy; where a pseudo filesystem has rules of its own, nothing is predicted.
"""

from __future__ import annotations

from typing import Final

SERVER_DECIDES: Final = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs",
        "ceph", "lustre", "gpfs", "glusterfs", "afs", "beegfs",
    }
)  # fmt: skip

FAKED_OWNERS: Final = frozenset({"vfat", "exfat", "ntfs", "ntfs3", "msdos", "cifs", "smb3"})

PSEUDO: Final = frozenset(
    {
        "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "securityfs", "debugfs",
        "tracefs", "bpf", "pstore", "configfs", "hugetlbfs", "binfmt_misc", "efivarfs", "fusectl",
        "autofs", "rpc_pipefs", "nsfs", "selinuxfs",
    }
)  # fmt: skip


def is_fuse(fstype: str) -> bool:
    """A userspace filesystem (``fuse``, ``fuseblk``, ``fuse.sshfs``)."""
    return fstype == "fuseblk" or fstype.split(".")[0] == "fuse"
