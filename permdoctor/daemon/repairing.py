"""A repair that nobody asked for, with the machinery of ``fix``: the same plan, journal, executor.

Narrower than what a person may do: only what a table of ``repair.unasked`` allows for this
container, remedy and place, and never ``--live``.  The policy is asked with the finished plan,
for only then it is known how much there is to change.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from permdoctor.app.applying import Prepared
from permdoctor.app.fix import fixing
from permdoctor.app.request import FixRequest
from permdoctor.app.rights import home_directories
from permdoctor.config import Config
from permdoctor.container.needs import clean_path
from permdoctor.daemon.events import Repair, Repaired
from permdoctor.diagnosis.proposal import Result
from permdoctor.errors import NotThereError, PermdoctorError, UsageError
from permdoctor.kernel.mountinfo import is_beneath
from permdoctor.kernel.text import printable
from permdoctor.repair.journal import Record, Unasked
from permdoctor.repair.policy import Machine, Question, judge_unasked
from permdoctor.repair.store import Store


def repaired(repair: Repair, config: Config) -> Repaired:
    """Never raises: what went wrong, or that a signal ended it, is in the answer."""
    done = Repaired(number=repair.number, ref=repair.ref, path=repair.root)
    try:
        return _repaired(repair, config, done)
    except NotThereError:
        return done  # somebody has mended it
    except UsageError as e:
        return replace(done, failed=e.message, denied=True)
    except PermdoctorError as e:
        return replace(done, failed=e.message)
    except KeyboardInterrupt:
        return replace(done, failed="it was interrupted")
    except Exception as e:  # noqa: BLE001 - a fault of ours is an answer, too
        return replace(done, failed=f"internal error: {type(e).__name__}: {printable(str(e))}")


def _repaired(repair: Repair, config: Config, done: Repaired) -> Repaired:
    _must_not_be_taken_back(repair, config)
    request = FixRequest(
        name=repair.ref.id,
        remedy=repair.remedy,
        apply=True,
        hosts=(repair.ref.engine,),
        config=_narrow(repair, config),
        unasked=Unasked(engine=repair.ref.engine, code=repair.code, target=repair.target),
    )
    with fixing(request) as prepared:
        if prepared.proposal.is_empty or prepared.journal is None:
            return done
        _must_be_allowed(repair, config, prepared)
        result = prepared.apply()
    return replace(done, id=result.id, applied=result.outcome.applied, failed=_what_is_left(result))


def _must_not_be_taken_back(repair: Repair, config: Config) -> None:
    """Raises ``UsageError`` where the last that was done there was an undo: somebody has said no,
    to another remedy, too.  It holds until that is repaired by hand, or the journal is gone.
    """
    records = Store(config.repair.state).records()
    same = [r for r in records if r.about.kind == "repair" and repair.root in r.about.roots]
    if same and not _stands(same[-1].id, records):
        raise UsageError(f"it was taken back by hand (permdoctor history {same[-1].id})")


def _stands(id_: str, records: Sequence[Record]) -> bool:
    """What an undo has taken back stands again when that is undone."""
    return not any(_stands(r.id, records) for r in records if r.about.of == id_)


def _narrow(repair: Repair, config: Config) -> Config:
    """The same configuration, with no root that the tables do not name."""
    own = config.repair
    roots = tuple(
        root
        for table in own.unasked
        if table.remedy == repair.remedy
        for root in table.roots
        if any(is_beneath(_path(root), _path(allowed)) for allowed in own.roots)
    )
    if not any(is_beneath(repair.root, _path(r)) for r in roots):
        raise UsageError(f"repair.roots does not allow it in {printable(repair.root)}")
    most = min(repair.max_entries, own.max_entries)
    return replace(config, repair=replace(own, roots=roots, max_entries=most, live=False))


def _must_be_allowed(repair: Repair, config: Config, prepared: Prepared) -> None:
    """Raises ``UsageError`` for a plan that no table allows."""
    target = prepared.target
    if target is None:
        raise UsageError("nobody is repaired for")
    machine = Machine(homes=home_directories())
    container = target.user.container
    for tree in prepared.proposal.summary.trees:
        question = Question(path=tree.path, remedies=(repair.remedy,))
        count = prepared.proposal.summary.count
        refused = judge_unasked(config.repair, machine, question, container, count)
        if refused is not None:
            raise UsageError(refused.message, hint=refused.hint)


def _what_is_left(result: Result) -> str:
    if result.signal:
        return "it was interrupted"
    if result.stuck:
        names = ", ".join(s.what for s in result.stuck)
        return f"still paused: {names}"
    broken = [c.who for c in result.others if c.new]
    if broken:
        return f"it took something from {', '.join(broken)}"
    return "" if result.outcome.complete else "not everything could be changed"


def _path(text: str) -> bytes:
    return clean_path(text.encode("utf-8", "surrogateescape"))
