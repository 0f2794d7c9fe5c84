"""The model held against the running kernel.

A *round* is one directory of a real filesystem, seen through two bind mounts with drawn flags and
id maps, full of small *cells*: a directory, an object in it, a second directory, all with drawn
owners, modes, ACLs and flags.  For each *case* a drawn subject is put to the model first, on facts
known from the construction alone; then a child process in that user namespace takes the subject's
credentials and really does the thing.  Verdict, errno and, where something changed, the result
are compared.

Nothing here uses the package's own system calls, ACL codec or readers: what is compared is the
model with the kernel, and a second opinion should be independent.

====================  ===========================================================================
``syscalls.py``       the system calls, through ctypes
``aclxattr.py``       ACLs as the xattr holds them
``ids.py``            small pools of ids, and the shapes of id maps drawn from them
``spaces.py``         user namespaces, executors living in them, id maps for mounts
``executor.py``       the child: takes credentials, does one thing after the other, says the errno
``subjects.py``       whose credentials
``scene.py``          filesystems, mounts and cells: what is on the disk
``cases.py``          the operations: draw the arguments, ask the model, say what to do
``walks.py``          paths through directories and symlinks
``compare.py``        what the kernel left behind, against the model's prediction
``rounds.py``         one round: build, ask, do, compare
``run.py``            phases, two workers, the sum; ``python -m tests.differential``
``sysctls.py``        varies ``fs.protected_*`` and puts it back, whatever happens
``mutants.py``        wrong models, each of which must be caught
====================  ===========================================================================
"""
