"""kill -9, power loss and what else can end a repair: whatever happens, undo restores every byte.

``supervise`` runs a repair in processes of its own and stops it at any of its system calls;
``trees`` makes trees with every kind of change in them; ``snapshot`` is what must come back;
``rounds`` kills, undoes and compares; ``python -m tests.repair.crash --kills N`` does it long.
"""
