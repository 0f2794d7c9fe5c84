"""What an engine says of a container, in OCI and Docker terms.  Pure.

``container.py`` is the configuration (from inspect), ``users.py`` resolves USER and group_add as
runc does, ``userns.py`` predicts id maps from subuid and subgid, ``binds.py`` joins configuration
with mountinfo, ``subject.py`` is whose credentials are judged, ``needs.py`` what is needed where.
"""
