"""``permdoctor fix``."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from permdoctor import __version__
from permdoctor.cli import options
from permdoctor.cli.complete import container_names, mount_targets, remedy_names
from permdoctor.cli.output import emit, emit_lines, note

if TYPE_CHECKING:
    from permdoctor.app.applying import Prepared
    from permdoctor.app.request import FixRequest
    from permdoctor.diagnosis.proposal import Proposal, Result

EPILOG = """\b
Examples:
  permdoctor fix trainer                          show what would be changed
  permdoctor fix trainer --apply --allow /srv/models
  permdoctor fix trainer --mount /app/model --remedy acl-user
  permdoctor fix --path /srv/models --to 1001:1001
  permdoctor fix --path /srv/models --for trainer --apply --yes
  permdoctor fix trainer --plan-out plan; permdoctor fix --plan plan --apply

Only entries that are wrong are changed; set-id files, files with capabilities and files with more
than one link are skipped.  Containers that mount the tree writable are paused while it is repaired.
Every change is journaled before it is made: permdoctor undo takes it back.

Repair is allowed below the directories of repair.roots in the configuration, of --allow and of
--path; never in the host's own places, and not for a container with the label permdoctor.fix=off.

\b
Exit status:
  0  nothing to do; or applied, and the problem is gone
  1  a plan was shown; or applied, and something is left
  2  wrong usage or configuration, or repair is not allowed there
  3  could not
"""

QUESTIONS = {"repair": "Repair it?", "undo": "Put it back?"}


@click.command(epilog=EPILOG)
@click.argument("name", required=False, metavar="[CONTAINER]", shell_complete=container_names)
@click.option(
    "--mount",
    "mounts",
    multiple=True,
    metavar="TARGET",
    shell_complete=mount_targets,
    help="Only this mount of the container (its path inside); may be repeated.",
)
@click.option(
    "--remedy",
    metavar="NAME",
    shell_complete=remedy_names,
    help="This remedy, as check calls it, instead of the best one that harms nobody.",
)
@click.option("--path", metavar="DIR", help="A tree of the host, by name; needs no engine.")
@click.option(
    "--to",
    "to",
    metavar="UID:GID",
    callback=options.parse_owner,
    help="With --path: whose the tree is to be, in numbers of the host (UID, UID:GID or :GID).",
)
@click.option(
    "--for",
    "beneficiary",
    metavar="CONTAINER",
    shell_complete=container_names,
    help="With --path: give this container what it needs there.",
)
@click.option("--plan", metavar="FILE", help="Take the plan from a file of --plan-out.")
@click.option("--plan-out", metavar="FILE", help="Write the plan to a new file, for --plan.")
@click.option("--apply", is_flag=True, help="Do it, after asking.  Needs root.")
@options.yes_option
@options.live_option
@click.option(
    "--allow",
    multiple=True,
    metavar="DIR",
    help="Allow repair below DIR for this command, as repair.roots does; may be repeated.",
)
@click.option(
    "--set-id", is_flag=True, help="Also set-id files and files with capabilities; they lose these."
)
@click.option("--symlinks", is_flag=True, help="Also the owners of symlinks themselves.")
@click.option("--force", is_flag=True, help="Also on NFS, FUSE, overlay and their like.")
@options.format_option("table", "json")
@options.host_option
@options.config_option
def command(
    name: str | None,
    mounts: tuple[str, ...],
    remedy: str | None,
    path: str | None,
    to: tuple[int | None, int | None] | None,
    beneficiary: str | None,
    plan: str | None,
    plan_out: str | None,
    apply: bool,
    yes: bool,
    live: bool,
    allow: tuple[str, ...],
    set_id: bool,
    symlinks: bool,
    force: bool,
    form: str,
    hosts: tuple[str, ...],
    config_file: str | None,
) -> int:
    """Repair what is refused to a container, or a tree by name.

    Without --apply the plan is shown and nothing is changed: what, how many, who gains and loses,
    what is skipped, and which containers would be paused.
    """
    _one_of(name, path, plan)
    _fitting(name=name, path=path, plan=plan, mounts=mounts, remedy=remedy, to=to, who=beneficiary)
    if plan_out is not None and (apply or plan is not None):
        raise click.UsageError("--plan-out only writes the plan: apply it with --plan FILE --apply")
    options.need_an_answer(apply=apply, yes=yes, form=form)
    from permdoctor.app.request import FixRequest
    from permdoctor.repair.options import Asked

    request = FixRequest(
        name=name,
        mounts=tuple(options.absolute_path(m) for m in mounts),
        remedy=remedy,
        path=None if path is None else options.host_path(path),
        to=to,
        beneficiary=beneficiary,
        plan=plan,
        plan_out=plan_out,
        apply=apply,
        live=live,
        allow=tuple(options.host_path(a) for a in allow),
        asked=Asked(set_id=set_id, symlinks=symlinks, force=force),
        hosts=hosts,
        options=_repeated(
            hosts=hosts,
            config=config_file,
            set_id=set_id,
            symlinks=symlinks,
            force=force,
            live=live,
        ),
        config=options.load_config(config_file),
    )
    return _run(request, yes=yes, form=form)


def _run(request: FixRequest, *, yes: bool, form: str) -> int:
    from permdoctor.app.fix import fixing
    from permdoctor.cli.progress import ProgressBar

    with ExitStack() as stack:
        with ProgressBar() as bar:
            prepared = stack.enter_context(fixing(request, bar))
        if request.plan_out is not None and not prepared.proposal.is_empty:
            prepared.save(request.plan_out)
        if not request.apply or prepared.proposal.is_empty:
            show(prepared.proposal, None, form)
            return shown_status(prepared.proposal)
        return carry_out(prepared, yes=yes, form=form)


def carry_out(prepared: Prepared, *, yes: bool, form: str) -> int:
    """Show the plan, ask, do it, show what came of it.  For ``undo``, too."""
    from permdoctor.cli.progress import ProgressBar

    proposal = prepared.proposal
    if form != "json":
        from permdoctor.render.plan import proposal as lines

        emit_lines(lines(proposal, applies=True))
    prepared.must_be_complete()
    if not yes and not click.confirm(QUESTIONS[proposal.act.value], err=True):
        note("permdoctor: nothing was changed")
        return options.FINDINGS
    with ProgressBar(total=proposal.summary.count) as bar:
        result = prepared.apply(bar)
    proposal = prepared.proposal  # an undo looks again when everybody stands still
    show(proposal, result, form)
    if result.signal:
        return 128 + result.signal
    return options.NOTHING_FOUND if proposal.is_solved_by(result) else options.FINDINGS


def show(proposal: Proposal, result: Result | None, form: str) -> None:
    """The plan, or what came of it; in JSON both."""
    if form == "json":
        from permdoctor.render.repair_json import repair_json

        emit(repair_json(proposal, result, __version__))
        return
    from permdoctor.render import plan

    if result is None:
        emit_lines(plan.proposal(proposal))
    else:
        emit_lines(plan.result(result, proposal.act, unrepaired=proposal.unrepaired))


def shown_status(proposal: Proposal) -> int:
    """0 only where there was nothing to do, and nothing that is left undone."""
    if proposal.summary.stopped:
        return options.COULD_NOT
    return options.FINDINGS if proposal.has_work else options.NOTHING_FOUND


def _one_of(name: str | None, path: str | None, plan: str | None) -> None:
    given = sum(x is not None for x in (name, path, plan))
    if given == 0:
        raise click.UsageError("repair what?  Name a container, or use --path DIR or --plan FILE")
    if given > 1:
        raise click.UsageError("give one of CONTAINER, --path DIR and --plan FILE")


def _fitting(
    *,
    name: str | None,
    path: str | None,
    plan: str | None,
    mounts: tuple[str, ...],
    remedy: str | None,
    to: object,
    who: str | None,
) -> None:
    if name is None and (mounts or remedy):
        raise click.UsageError("--mount and --remedy are for a CONTAINER")
    if path is None and (to is not None or who is not None):
        raise click.UsageError("--to and --for need --path DIR")
    if path is not None and (to is None) == (who is None):
        raise click.UsageError("--path needs --to UID:GID or --for CONTAINER")


def _repeated(
    *,
    hosts: tuple[str, ...],
    config: str | None,
    set_id: bool,
    symlinks: bool,
    force: bool,
    live: bool,
) -> tuple[str, ...]:
    """The options that the line which applies the plan needs, too."""
    flags = {"--set-id": set_id, "--symlinks": symlinks, "--force": force, "--live": live}
    words = [w for h in hosts for w in ("--host", h)]
    words += [] if config is None else ["--config", os.path.abspath(config)]
    return (*words, *(f for f, given in flags.items() if given))
