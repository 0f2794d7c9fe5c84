"""Facts in, findings out.  Pure.

``facts.py`` is what was read, ``judge.py`` runs the kernel's rules over it, ``causes.py`` names
what refused, ``remedies.py`` what would help and whom it would hurt, ``codes.py`` the catalogue,
``report.py`` the result.
"""
