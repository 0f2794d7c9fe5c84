"""What Linux decides, as pure functions of facts.  Theory of operation.

A process asks for something; the kernel walks the path, then asks a fixed list of checks, and
the first that decides is the answer.  Each module here mirrors one part of that:

========================  ==================================================================
``ids.py``                ``kernel/user_namespace.c``: typed ids, id maps with gaps
``caps.py``               ``uapi/linux/capability.h``: the effective set, as /proc shows it
``cred.py``               ``struct cred``; ``in_group_p``, ``cap_capable``
``acl.py``                ``fs/posix_acl.c``: what the entries mean
``inode.py``              the facts of an inode, *as its mount shows it*
``mount.py``              ``struct vfsmount``, ``struct mnt_idmap``, ``struct super_block``
``sysctls.py``            ``fs.protected_*``
``permission.py``         ``inode_permission()`` and below (``fs/namei.c``)
``walk.py``               ``link_path_walk()``, ``may_follow_link()``
``operations.py``         open, create, unlink, rename, link, chmod, chown, ... with their errno
``verdict.py``            the answer and the steps that led to it
``mountinfo.py``          ``/proc/PID/mountinfo`` as text
``procstatus.py``         ``/proc/PID/status``, ``uid_map`` as texts
``filesystems.py``        filesystem types by who decides on them
``text.py``               untrusted names as text that is safe to show
========================  ==================================================================

Data is ``msgspec.Struct``, frozen and keyword-only, in the whole house: a frozen dataclass means
the same and costs twenty times as much to define, which with seventy of them was nearly half of
what a check takes to start.  ``msgspec.structs.replace`` makes the changed copy.

Nothing here reads a clock, a file or an environment.  Causes that a person reads are *steps* of
these functions and nothing beside them, so an explanation cannot disagree with its verdict.  The
differential test (``tests/differential``) holds all of it against the running kernel.

Outside this model, and said so wherever it matters: the device cgroup, security modules,
and filesystems whose server or daemon decides (NFS, FUSE, CIFS, 9p).  Mounts with nosymfollow are
not modelled: a symlink on one is judged as if it were followed.
"""
