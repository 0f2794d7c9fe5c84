"""The only code that changes files.  Theory of operation:

A *journal* is a directory of its own.  In it lies a *plan*: records that name every entry to be
changed by directory, name, inode number and birth time, with the whole state it was seen in and
the state it is to have (``planfile.py``).  ``survey.py`` writes the plan, reading only;
``journal.py`` makes it durable; ``executor.py`` carries it out and writes *marks*; ``undo.py``
surveys the entries of a journal and writes the inverse plan, for the same executor.  So whatever
happens, what is needed for the way back is on the disk before the first change.

Who may be trusted: nobody who can write in the tree.  An inode is changed only if it was seen
when the plan was made, under that name, alone (one link), with a change time that was not fresh,
and is met again under the same name with the same identity and state.  Both times it is reached
from the root by descriptors (openat2 beneath, no symlinks, no magic links, no other mount), and
it is changed by descriptor, never by name.  An inode that has been outside the tree is none that
the plan knows.

Every filesystem that is repaired is touched in forked workers only, which can be left behind when
they hang.  ``root.py`` says where nothing is repaired at all, ``state.py`` what the steps from one
state to another are, ``policy.py`` what the administrator allows.
"""
