"""Fuzzing: what parsers make of hostile input.  ``python -m tests.fuzz`` for as long as one likes.

An input is bytes, made by ``mutate.py`` from recorded samples or from nothing; its seed and number
make it again.  ``run.py`` feeds it and judges: an answer of the declared type with its invariants
(``oracle.py``), or the documented error in one printable line, within its share of CPU and memory.
``targets/`` say what is fed to whom, ``mutants.py`` breaks parsers to show that it would be seen.
"""
