"""Which failed starts are a matter of users, permissions or mounts: real words of engines."""

from __future__ import annotations

import pytest

from permdoctor.diagnosis.start import is_refusal

RUNC = "failed to create shim task: OCI runtime create failed: runc create failed: "


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("unable to find user nosuch: no matching entries in passwd file", True),
        (f'{RUNC}unable to start container process: exec: "/etc/passwd": permission denied', True),
        (f"{RUNC}setup user: cannot set uid to unmapped user in user namespace", True),
        (
            f'{RUNC}error mounting "/srv/x" to rootfs at "/etc/x": not a directory: Are you trying '
            "to mount a directory onto a file (or vice-versa)?",
            True,
        ),
        (
            'error while mounting volume "/var/lib/docker/volumes/v/_data": failed to mount local '
            "volume: mount /srv/v:/var/lib/docker/volumes/v/_data, flags: 0x1000: no such file or "
            "directory",
            True,
        ),
        (f'{RUNC}exec: "/nosuch": stat /nosuch: no such file or directory: unknown', False),
        (f'{RUNC}exec: "sl": executable file not found in $PATH: unknown', False),
        (
            "driver failed programming external connectivity on endpoint web: Bind for 0.0.0.0:80 "
            "failed: port is already allocated",
            False,
        ),
        ("", False),
    ],
)
def test_what_is_a_matter_of_permissions(error: str, expected: bool) -> None:
    assert is_refusal(error) is expected
