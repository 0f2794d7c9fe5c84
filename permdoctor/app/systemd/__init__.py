"""permdoctor as a service of systemd: its units, what they may do, and where they are put.

``units.py`` makes the texts, ``dropin.py`` what a configuration needs beyond them,
``executable.py`` finds the program and says whether root may run it, ``install.py`` writes,
removes and looks.
"""
