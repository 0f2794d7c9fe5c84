"""Facts in, findings out.  Pure.

``facts.py`` is what was read; ``diagnose.py`` (start here) makes the report of it.  ``judge.py``
puts needs to the kernel's rules, ``causes.py`` names what refused, ``entries.py`` is what lies
below a mount, ``exposure.py`` what is allowed too much, ``outside.py`` what the rules cannot tell,
``remedies/`` what would help and whom it would hurt; ``codes.py`` and ``pages/`` are the catalogue,
``report.py`` the result.
"""
