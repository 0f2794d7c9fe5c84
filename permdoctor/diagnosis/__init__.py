"""Facts in, findings out.  Pure.

``facts.py`` is what was read; ``diagnose.py`` (start here) makes the report of it, ``report.py``.
``judge.py`` puts needs to the kernel's rules; a refusal is a ``case.py``, ``causes.py`` gives it
its code, ``details.py`` its facts as sentences, ``remedies/`` what would help and whom it would
hurt.  ``entries.py`` is what lies below a mount, ``future.py`` the files that do not exist yet,
``exposure.py`` and ``world_writable.py`` what is allowed too much, ``start.py`` why it did not
start, ``outside.py`` what the rules cannot tell, ``notes.py`` what to know of the check itself.
``hostpath.py`` and ``shell.py`` are paths and words for the host's commands, ``system.py`` the
paths no command may give away; ``explanation.py`` is one path instead of a report; ``codes.py``
and ``pages/`` are the catalogue.

Towards a repair: ``recipes.py`` is what a remedy does to one inode, made of ``edits.py``, with
``parties.py`` as those whom it must not hurt; ``choice.py`` takes remedies from a report,
``unfixable.py`` says why not; ``plan.py`` is what will be changed, ``effects.py`` who gains and
loses by it, ``proposal.py`` all that a person is shown.
"""
