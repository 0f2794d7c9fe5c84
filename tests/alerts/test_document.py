"""What a person reads at night: what, where, who, the rule, what helps, and what to type."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import click
import pytest
from msgspec.structs import replace

from permdoctor.alerts import alertmanager, apprise, journald, pagerduty, webhook
from permdoctor.alerts.alert import Alert
from permdoctor.alerts.document import TOO_LONG, alert_json, document, next_steps
from permdoctor.cli.root import root

from .build import alert, resolved

OTHER = "unix:///run/user/1000/docker.sock"


def of_container(name: str = "trainer", engine: str = "unix:///run/docker.sock") -> Alert:
    of = alert(who="1001:1001 = host 1001:1001", fixable=True)
    return replace(of, problem=replace(of.problem, container=name, engine=engine))


@pytest.mark.parametrize(
    ("of", "steps"),
    [
        pytest.param(
            of_container(),
            [
                "permdoctor check trainer --format explain",
                "permdoctor fix trainer",
                "permdoctor codes PD101",
            ],
            id="look, repair, read on",
        ),
        pytest.param(
            replace(of_container(), fixable=False),
            ["permdoctor check trainer --format explain", "permdoctor codes PD101"],
            id="what permdoctor does not repair",
        ),
        pytest.param(
            of_container(engine=OTHER),
            [
                f"permdoctor check trainer -H {OTHER} --format explain",
                f"permdoctor fix trainer -H {OTHER}",
                "permdoctor codes PD101",
            ],
            id="another engine than the usual",
        ),
        pytest.param(
            of_container("a;reboot #\\x0a"),
            [
                "permdoctor check 'a;reboot #\\x0a' --format explain",
                "permdoctor fix 'a;reboot #\\x0a'",
                "permdoctor codes PD101",
            ],
            id="a name that is a trap",
        ),
        pytest.param(
            of_container(""),
            ["permdoctor status", "permdoctor codes PD101"],
            id="an engine",
        ),
        pytest.param(of_container("--config=/tmp/x"), [], id="a name that is an option"),
        pytest.param(resolved(of_container()), [], id="it is over"),
    ],
)
def test_next_steps(of: Alert, steps: list[str]) -> None:
    """Each is a command line that permdoctor takes; what follows ``#`` is for people."""
    lines = next_steps(of)
    assert [shlex.join(shlex.split(line, comments=True)) for line in lines] == steps
    for line in lines:
        _, name, *args = shlex.split(line, comments=True)
        command = root.get_command(click.Context(root), name)
        assert command is not None
        command.make_context(name, args)


def test_a_command_is_whole_or_not_there() -> None:
    """What is cut off may be what makes it harmless."""
    long = "chown 1001:1001 /srv/" + "a" * 3000
    said = document(alert(remedies=("chmod g+w /srv", long)))
    assert said.remedies == ("chmod g+w /srv", TOO_LONG)
    assert TOO_LONG.startswith("# ")
    of = of_container("n" * 3000)
    assert all(step in next_steps(of) or step == TOO_LONG for step in document(of).next_steps)


SAYS: list[tuple[str, Callable[[Alert], Any]]] = [
    ("alertmanager", lambda a: alertmanager.posted(a, 0)["annotations"]),
    ("pagerduty", lambda a: pagerduty.event(a)["payload"]),
    ("webhook", webhook.envelope),
    ("command", lambda a: json.loads(alert_json(a))),
    ("journald", journald.fields),
    ("apprise", apprise.message),
]


@pytest.mark.parametrize("say", [pytest.param(say, id=name) for name, say in SAYS])
def test_everybody_is_told_everything(say: Callable[[Alert], Any]) -> None:
    of = of_container()
    said = json.dumps(say(of))
    for text in (of.title, of.who, *of.detail, *of.remedies, *document(of).next_steps):
        assert text in said


@pytest.mark.parametrize(
    "say", [pytest.param(say, id=name) for name, say in SAYS if name in ("apprise", "journald")]
)
def test_a_headline_names_the_engine_where_there_is_no_container(
    say: Callable[[Alert], Any],
) -> None:
    of = of_container("")
    assert f"{of.problem.engine}: " in json.dumps(say(of))
    assert ": : " not in json.dumps(say(of))


@pytest.mark.parametrize(
    ("of", "type_"),
    [
        pytest.param(alert(), "firing", id="firing"),
        pytest.param(alert(revision=1), "firing", id="worse, or told for the first time"),
        pytest.param(alert(revision=1, update=True), "updated", id="updated"),
        pytest.param(resolved(alert(revision=1)), "resolved", id="resolved"),
    ],
)
def test_the_type_of_the_event(of: Alert, type_: str) -> None:
    event = webhook.envelope(of)
    assert event["type"] == f"permdoctor.alert.{type_}"
    assert event["data"]["revision"] == of.revision  # type: ignore[index]


@pytest.mark.parametrize(
    ("who", "matters"),
    [
        ("1000:1000 (reader) = host 1000:1000 (alice), groups 5", False),
        ("1000:1000 = host 1000:1000, groups 5", False),
        ("1000:1000 = host 1000:1000, groups 6", True),
        ("1001:1000 = host 1001:1000, groups 5", True),
    ],
)
def test_names_are_no_news(who: str, matters: bool) -> None:
    """They are not always known: of a container between two runs by its configuration alone."""
    before = alert(who="1000:1000 = host 1000:1000 (alice), groups 5")
    assert (before.matter != alert(who=who).matter) is matters
