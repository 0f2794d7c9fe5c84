"""Words to and from the service manager, and names as labels of metrics."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from permdoctor.daemon.metrics import Metrics
from permdoctor.daemon.notify import Notifier
from permdoctor.daemon.series import MAX_LABEL
from tests.daemon.states import container, engine, finding, state
from tests.fuzz.mutate import TOKENS, bytes_of
from tests.fuzz.oracle import must
from tests.fuzz.run import Feed, Target, scratch

WORDS = (
    b"30000000", b"watching 2 engines", b"12 containers on 1 of 2 engines, 3 problems told",
    b"\nMAINPID=1\nSTATUS=", b"%d" % os.getpid(),
)  # fmt: skip
NAMES = (b"trainer", b"/app/model", b"unix:///var/run/docker.sock", b'a"b\\c\nd{e="f"} 1', *TOKENS)


@contextlib.contextmanager
def notify() -> Iterator[Feed]:
    with (
        scratch() as place,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        address = str(Path(place, "n"))
        manager.bind(address)
        manager.setblocking(False)

        def feed(data: bytes) -> None:
            text = data.decode("utf-8", "surrogateescape")
            notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": text})
            every = notifier.every
            must(every is None or 0.0 < every < float("inf"), f"every {every}")
            notifier.ready(text)
            notifier.close()
            with contextlib.suppress(BlockingIOError):
                said = manager.recv(1 << 20).decode("utf-8").split("\n")
                must([w.partition("=")[0] for w in said] == ["READY", "STATUS"], f"said {said}")
            other = {"NOTIFY_SOCKET": text.replace("\0", ""), "WATCHDOG_PID": text}
            Notifier(other).close()
            must(not other, "children would speak for us")

        yield feed


@contextlib.contextmanager
def labels() -> Iterator[Feed]:
    metrics = Metrics(limit=3)

    def feed(data: bytes) -> None:
        one, two = data.decode("utf-8", "surrogateescape"), data[: len(data) // 2].decode("latin-1")
        found = [finding(target=t) for t in (one, two, one + "x")]
        metrics.observe(state(container(one, *found), container(two), engines=(engine(one),)))
        text = metrics.text(process=False).decode("utf-8")
        named = "".join(f"{line}\n" for line in text.split("\n") if _NAMED.match(line))
        told = {}
        for family in text_string_to_metric_families(named):
            for sample in family.samples:
                key = (sample.name, *sorted(sample.labels.items()))
                must(key not in told, f"a series twice: {key}")
                told[key] = sample.value
                for value in sample.labels.values():
                    must(value.isprintable(), f"a label that is not printable: {value!r:.100}")
                    must(len(value) <= MAX_LABEL, f"a label of {len(value)} characters")
        findings = sum(v for k, v in told.items() if k[0] == "permdoctor_findings")
        must(findings == len(found), f"{findings} findings of {len(found)}")

    yield feed


_NAMED = re.compile(r"permdoctor_(findings|engine_connected)[{ ]")

TARGETS = (
    Target(name="notify", make=bytes_of(WORDS), open=notify, errors=()),
    Target(name="labels", make=bytes_of(NAMES), open=labels, errors=(), seconds=0.5),
)
