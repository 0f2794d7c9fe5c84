"""Attackers against a repair that runs: ``python -m tests.repair.attack``.

Nothing is paused here, which is the hard case.  An attacker is a process of its own that writes in
the tree as fast as it can; as root, so that neither directory modes nor fs.protected_hardlinks
stand in its way.  The promise: no inode changes that was outside of the tree.  Two things are told
apart (``scene.py``):

- An *escape* is a foreign inode that has another owner, mode or ACL when the repair is over.
  Canaries that nobody else touches must keep their ctime too, so a change that was put back counts.
- *Strays* are inodes of the tree itself that the attacker took out of it, or gave a second name
  outside, while they were being changed, and that kept the change.

What can be prevented while writers run, and what only when none does (rule 6):

- Swapped directories, symlinks, mounts, moved directories: wholly, by descriptors and openat2.
- A *foreign file linked in*: wholly.  Whoever sees it alone (one link) by a name in the tree sees
  it after that name was taken away, and the unlink has just set the ctime; no attacker sets a
  ctime back.  "Just" must be measured from *before* the look: a look may be interrupted for long.
- A *file of the tree linked out, or moved out*, between the last look and the change: never; there
  is no call that changes an inode if it has one name.  It is seen afterwards and can be put back;
  whoever links it a moment later has it anyway.  Nobody else's file changes by that.
- A *directory* moved out while what is in it is being changed: as the last.  Each file below keeps
  its name and its ctime, so it is seen only by walking to the directory again.

The attackers race in ``swaps.py``, ``links.py`` and ``churn.py``: against ``naive.py``, to show
that they bite, and against ``ours.py``.  ``interleave.py`` leaves nothing to chance: it makes its
moves between two given calls.
"""
