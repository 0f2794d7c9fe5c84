"""The machine, read-only: what the kernel says of processes, mounts and trees.  Changes nothing.

``syscalls.py`` is the thin layer; ``procfs.py`` processes and namespaces; ``subjects.py`` whose
credentials a container holds; ``view.py`` what a process sees, by descriptor; ``inodes.py`` and
``mounts.py`` turn stat and mountinfo into the kernel's types; ``scan.py`` reads whole trees (with
``sharing.py``, two processes at it); ``deadline.py`` gives up on a filesystem that does not
answer; ``probe.py`` asks the kernel itself, as the subject.

Everything that a container can name is hostile: it is held by descriptor, never opened unless it
is a regular file or a directory, and its name is bytes.
"""
