"""Telling the people who must know: one sink a file, behind one small Protocol (``sink.py``).

``alert.py`` is what is told; ``outbox.py`` keeps it until each sink has taken it, over restarts.
"""
