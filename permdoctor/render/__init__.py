"""Results as text: for a terminal, for a pipe, for a program.  Pure; nothing here prints.

``steps.py`` makes sentences of the kernel's steps, ``names.py`` of ids.  ``table.py``,
``explain.py`` and ``walk.py`` make ``layout.Line``s, which ``layout.plain`` or
``terminal.styled`` turn into text.  ``document.py`` and ``json.py`` are the JSON output.
"""
