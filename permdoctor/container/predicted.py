"""The Subject of a container that does not run, from configuration.  It says that it is predicted.

Put together from ``users.py`` (who, inside), ``userns.py`` (which host ids) and ``caps.py``.
"""

from __future__ import annotations

from permdoctor.container.caps import predicted_effective
from permdoctor.container.container import Container
from permdoctor.container.subject import Basis, Subject
from permdoctor.container.users import (
    PredictionError,
    group_name,
    resolve_user,
    user_name,
)
from permdoctor.kernel.cred import Cred
from permdoctor.kernel.ids import Gid, Kgid, UserNs

_UMASK = 0o022
"""What Docker and Podman start a container's first process with."""


def predicted_subject(
    container: Container, passwd: bytes | None, group: bytes | None, userns: UserNs
) -> Subject:
    """Whom the first process will be.  ``passwd`` and ``group`` are the image's (``None``: it has
    none).

    Raises :class:`PredictionError` where the engine would refuse to start it: an unknown user or
    group, or an id that ``userns`` does not map.
    """
    who = resolve_user(container.user, container.group_add, passwd, group)
    kuid = userns.kuid(who.uid)
    if kuid is None:
        raise _unmapped("uid", who.uid)
    return Subject(
        cred=Cred(
            fsuid=kuid,
            fsgid=_kgid(userns, who.gid),
            groups=frozenset(_kgid(userns, g) for g in who.groups),
            effective=predicted_effective(container, who.uid),
            userns=userns,
        ),
        basis=Basis.PREDICTED,
        inside_user=user_name(passwd, who.uid),
        inside_group=group_name(group, who.gid),
        umask=_UMASK,
    )


def predicted_home(container: Container, passwd: bytes | None, group: bytes | None) -> bytes:
    """HOME of the first process: the environment's, else passwd's home directory, else ``/``.

    The rule is runc's (``finalizeNamespace``): an empty HOME counts as none.
    """
    home = container.env_value("HOME")
    if home:
        return home.encode("utf-8", "surrogateescape")
    return resolve_user(container.user, container.group_add, passwd, group).home


def _kgid(userns: UserNs, gid: Gid) -> Kgid:
    kgid = userns.kgid(gid)
    if kgid is None:
        raise _unmapped("gid", gid)
    return kgid


def _unmapped(kind: str, id_: int) -> PredictionError:
    return PredictionError(
        f"cannot set {kind} to unmapped {'user' if kind == 'uid' else 'group'}: {id_} lies outside"
        " the id map",
        hint="give the remap user a larger range in /etc/subuid and /etc/subgid,"
        " or run as a smaller id",
    )
