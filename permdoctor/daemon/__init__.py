"""The service: it watches the engines, judges what starts, tells, and repairs where it may.

``reconciler.py`` decides and does nothing: (event, now) in, commands out.  Around it: sources of
events, the loop, and dispatch, which does and decides nothing.  ``events.py`` has both languages.
"""
