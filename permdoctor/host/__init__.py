"""The machine, read-only: what the kernel says of processes, mounts and trees.  Changes nothing.

===============  ===========================================================================
``syscalls.py``  the calls that Python lacks, as they are
``acl.py``       the xattr encoding of POSIX ACLs
``process.py``   one process, held by a descriptor of its /proc directory
``procfs.py``    what /proc says of processes, namespaces, mounts and sysctls
``machine.py``   our own mounts, SELinux, a process's environment
``accounts.py``  the host's accounts: names for numbers, and their groups
``members.py``   which processes are one container
``subjects.py``  whose credentials those processes hold
``inodes.py``    from statx and ACL xattrs to the kernel's ``Inode``
``mounts.py``    from a mountinfo line to the kernel's ``Mount``
``view.py``      what one process sees of the filesystem, by descriptor
``walker.py``    a path in such a view, component by component
``scan.py``      a whole tree as classes of entries, within a budget
``entries.py``   what a scan counts: kinds of entries, in raw numbers
``dirs.py``      the directories that a scan has open
``sharing.py``   one scan by two processes
``peer.py``      one of the two: what it tells the other
``look.py``      one place, walked and scanned as a process sees it
``deadline.py``  filesystem work that can be given up
``probe.py``     asks the kernel itself, as the subject
===============  ===========================================================================

Everything that a container can name is hostile: it is held by descriptor, never opened unless it
is a regular file or a directory, and its name is bytes.
"""
