"""Parsers without one of their guards, by a word each: the fuzzer must notice."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from permdoctor.alerts import delivery
from permdoctor.alerts import http as sink
from permdoctor.config import files as config_files
from permdoctor.container import inspect as containers
from permdoctor.container import userns, users
from permdoctor.daemon import notify, series, status
from permdoctor.engines import archive, docker, endpoints, events, listing, transport
from permdoctor.host import acl
from permdoctor.kernel import mountinfo, procstatus
from permdoctor.repair import carried, files, journal, planfile, state

MUTANTS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "events": (events._labels, "text_of(v)", "v"),
    "docker-inspect": (containers.number_of, "-(1 << 63) <= value < 1 << 63", "True"),
    "podman-inspect": (containers._mappings, "isinstance(m, dict)", "True"),
    "docker-list": (listing.summary, "isinstance(names, list)", "names"),
    "podman-list": (listing.summary, 'text_of(obj.get("Id"))', 'obj.get("Id")'),
    "docker-info": (containers.text_of, "if not isinstance(value, str)", "if not value"),
    "podman-info": (containers._mapping, "isinstance(value, dict)", "value"),
    "other-answers": (docker.DockerEngine._exec_pids, "number_of(", "("),
    "image-archive": (archive.read_member, "tarfile.TarError, ValueError", "ValueError"),
    "docker-context": (endpoints._context, "TypeError, ", ""),
    "engine-http": (transport._parse_head, 're.fullmatch("[0-9]{3}", words[1])', "words[1]"),
    "event-stream": (events.EventStream._read_head, "_STATUS.match(words[1])", "words[1]"),
    "sink-http": (sink._answer, "if status is None", "if False"),
    "retry-after": (sink._retry_after, "(ValueError, OverflowError)", "OverflowError"),
    "url": (sink.parse_url, "except ValueError", "except KeyError"),
    "status-requests": (status._name, "if not fit or len(text) > MAX_NAME", "if False"),
    "mountinfo": (mountinfo._parse_line, "number(fields[0])", "int(fields[0])"),
    "status": (procstatus.parse_status, "number(uids[3])", "int(uids[3])"),
    "id-map": (procstatus.parse_id_map, "number(n) for n", "int(n) for n"),
    "passwd": (users._int, "if not _INTEGER.match(field_)", "if False"),
    "subids": (userns.parse_subids, "start + count <= 1 << 32", "True"),
    "acl": (acl.decode, "(len(blob) - _HEAD.size) % _ENTRY.size", "False"),
    "file-capabilities": (state._steps, "at.caps != after.caps", "False"),
    "configuration": (config_files._text, "except UnicodeDecodeError", "except KeyError"),
    "plan": (planfile.Reader.entries, " or len(columns[-1]) != size", ""),
    "plan-file": (carried._checked, "except NO_MSGPACK", "except KeyError"),
    "journal": (files.load, "except NO_MSGPACK", "except KeyError"),
    "marks": (journal.read_marks, "at + _MARK.size <= len(data)", "at < len(data)"),
    "outbox": (delivery.from_text, "(ValueError, TypeError", "(TypeError"),
    "notify": (notify._line, '.replace("\\n", " ")', ""),
    "labels": (series._label, ")[:MAX_LABEL]", ")"),
}
"""By the target that must notice: a function, a piece of its text, and what stands there."""


@contextmanager
def broken(name: str) -> Iterator[None]:
    """The function's text with one word changed, wherever it was imported."""
    function, old, new = MUTANTS[name]
    assert isinstance(function, FunctionType)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{name}: the text of {function.__qualname__} has changed"
    header = "from __future__ import annotations\n"
    scope: dict[str, Any] = {}
    exec(compile(header + source.replace(old, new), function.__code__.co_filename, "exec"), scope)
    sound = function.__code__
    function.__code__ = scope[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = sound
