"""Real engines, filesystems and mounts for the tests.

Everything here works outside pytest too.  What a machine cannot give raises
:class:`~tests.lab.needs.MissingError`, which the fixtures of ``tests/conftest.py`` turn into a skip
that says why.
"""
