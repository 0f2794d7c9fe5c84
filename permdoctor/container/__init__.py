"""What an engine says of a container, in OCI and Docker terms.  Pure.

``container.py`` is the configuration, ``inspect.py`` makes it of the engine's JSON; ``users.py``
resolves USER and group_add as runc does, ``caps.py`` the capabilities that the engine gives,
``userns.py`` the id maps from subuid and subgid; ``subject.py`` is whose credentials are judged,
``predicted.py`` the one of a container that does not run.  ``binds.py`` joins configuration with
mountinfo, ``needs.py`` is what is needed where.
"""
