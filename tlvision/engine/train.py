"""Do a run, and leave a folder that explains itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision import terminal
from tlvision.config.load import dump_config, load_config
from tlvision.engine.build import Run, build_run
from tlvision.engine.environment import describe_environment
from tlvision.engine.operating_point import analyse_run
from tlvision.engine.pictures import draw_pictures
from tlvision.engine.report_data import write_report_data
from tlvision.engine.resume import Resumed, open_run, read_run_config
from tlvision.engine.resume_data import check_data, check_environment, check_labels, origin, record
from tlvision.engine.run_folder import check_kinds, forget_results, in_run, mark_finished, new_folder, release_folder
from tlvision.engine.session import build_session
from tlvision.engine.summary import describe
from tlvision.evaluation import format_metrics
from tlvision.files.atomic import copy_any, recover_folder
from tlvision.files.json_files import write_json, write_text
from tlvision.hooks import ObserverHook
from tlvision.report import write_report
from tlvision.types import InputError, RunError, counted

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from rich.console import Console

    from tlvision.config.schema import Config
    from tlvision.training.session import Session


@dataclass(frozen=True, slots=True)
class TrainResult:
    """The result of a run.

    run:     its folder.
    metrics: the content of metrics.json, for the weights in checkpoints/best; empty if it stopped before its end.
    """

    run: Path
    metrics: dict[str, Any]


def train(
    config: Config | str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    extra: Sequence[str] = (),
    *,
    resume: str | Path | None = None,
    until: int | None = None,
    observers: Sequence[ObserverHook] = (),
) -> TrainResult:
    """Train with a config, from the start or, with `resume`, from the last checkpoint of a run.

    config:    the path of a YAML file, the name of a preset, several of these joined by "+", a mapping of the form of a
               file, or a loaded Config; unused with `resume`, which uses the run's config.yaml.
    overrides: "train.lr=2e-4" and so on.
    extra:     files or presets that are added to the config's bases.
    until:     stop after this epoch, with a checkpoint from which `resume` goes on as if nothing had been: schedules
               are those of all epochs. The metrics of the result are empty then. None: train to the end.
    observers: hooks of the caller behind those of the config, for example to draw a curve in a notebook. They are in
               no file of the run: whoever resumes it gives them again.

    Raises InputError for mistakes of the user, RunError if training cannot continue, KeyboardInterrupt after
    Ctrl-C, when the state has been saved.
    """
    from tlvision.config.schema import Config
    from tlvision.data.processes import can_start, refuse_in_child
    from tlvision.training import fabric as engine
    from tlvision.training.workers import wanted_workers

    refuse_in_child()
    _check_until(until)

    resumed = None
    if resume is not None:
        run = Path(resume)
        check_kinds(run)
        resumed = open_run(run, overrides)
        config = read_run_config(run, overrides) if resumed is None else resumed.config
    elif not isinstance(config, Config):
        config = load_config(config, overrides, extra)
    console = terminal.console(140)
    fabric = engine.make_fabric(config.train)
    can_start(wanted_workers(config.data.workers, fabric))  # before a folder is made
    if not fabric.is_global_zero:
        console.quiet = True
    parts = _build_run(config, resumed, fabric)
    parts.hooks.extend(observers)
    describe(console, parts)
    if resume is None:
        run = new_folder(config.run.out, fabric, dump_config(config))
    try:
        if resumed is None and config.train.lr == "auto":
            parts = _choose_rate(parts, run, fabric, console)
        session = build_session(parts, run, fabric)
        if resumed is None:
            _begin(session, parts, run, console, again=resume is not None)
        else:
            _continue(session, parts, resumed, console)
    except BaseException:
        if resume is None and fabric.is_global_zero:
            release_folder(run)
        raise
    console.print(f"run folder: {run}   device: {fabric.device}", highlight=False)
    if fabric.is_global_zero:
        forget_results(run)
    session.until = until
    _fit(session, run)
    if session.paused:
        console.print(f"stopped after epoch {session.closed_epochs}; go on with: tlvision train --resume {run}")
        metrics: dict[str, Any] = {}
    else:
        metrics = _finish(session, parts, run, console) if fabric.is_global_zero else {}
    engine.leave(fabric)
    return TrainResult(run, metrics)


def _check_until(epoch: int | None) -> None:
    if epoch is not None and epoch < 1:
        raise InputError(f"train: --until is an epoch, from 1, got {epoch}")


def _build_run(config: Config, resumed: Resumed | None, fabric: Fabric) -> Run:
    with fabric.rank_zero_first():  # one process renders or downloads, the others find it done
        if resumed is None:
            return build_run(config)
        from tlvision.training.checkpoint import MODEL

        check_labels(resumed)
        return build_run(config, weights=str(resumed.folder / MODEL), classes=resumed.classes)


def _choose_rate(parts: Run, run: Path, fabric: Fabric, console: Console) -> Run:
    """Return the parts with the rate that short runs chose in place of "auto"."""
    from tlvision.engine.rate_probe import choose_rate

    config, sentence = choose_rate(parts, run, fabric, lambda text: console.print(text, highlight=False))
    console.print(sentence, highlight=False)
    return replace(parts, config=config)


def _begin(session: Session, parts: Run, run: Path, console: Console, *, again: bool) -> None:
    """Write the files that describe the initial state of the run.

    again: whether the folder is that of a run that was stopped before its first checkpoint.
    """
    from tlvision.engine.rate_probe import record_of
    from tlvision.training.ledger import ledger_rows, print_ledger, schedule_row, write_ledger

    rows = ledger_rows(parts.adapter.module, parts.plan, parts.config.train, parts.hook_modules())
    schedule = schedule_row(parts.plan, parts.config.train)
    print_ledger(console, rows, schedule)
    environment = describe_environment(parts, session.fabric)
    session.origin = origin(parts.config, environment)
    if not session.fabric.is_global_zero:
        return
    if again:
        console.print(f"{run} has no checkpoint yet: nothing to resume, started again from step 0", soft_wrap=True)
        (run / "log.jsonl").unlink(missing_ok=True)
        for name in ("checkpoints", "tensorboard"):
            shutil.rmtree(run / name, ignore_errors=True)
    write_text(run / "config.yaml", session.origin["config.yaml"])
    write_text(run / "environment.json", session.origin["environment.json"])
    write_json(run / "classes.json", parts.classes.to_json(), indent=1)
    chosen = record_of(run, parts.config)
    write_ledger(run / "ledger.json", rows, schedule, rate=chosen.get("why"))
    if chosen:
        line = {"kind": "rate", "step": 0, "lr": chosen["lr"], "why": chosen["why"]}
        write_text(run / "log.jsonl", json.dumps(line) + "\n")


def _continue(session: Session, parts: Run, resumed: Resumed, console: Console) -> None:
    """Compare the run with its recorded environment and data, restore it, and record deliberate changes."""
    from tlvision.training.ledger import check_ledger, ledger_rows, print_ledger, schedule_row, write_ledger
    from tlvision.training.restore import restore_session

    now = describe_environment(parts, session.fabric)
    check_environment(resumed, now)
    check_data(resumed, now["data"])
    rows = ledger_rows(parts.adapter.module, parts.plan, parts.config.train, parts.hook_modules())
    schedule = schedule_row(parts.plan, parts.config.train)
    path = in_run(resumed.run, "ledger.json")
    print_ledger(console, rows, schedule)
    note = None if resumed.deliberate else check_ledger(path, rows, schedule)
    if note:
        resumed.notes.append(note)
    restore_session(session, added=resumed.added_hooks, changed=resumed.deliberate)
    session.fabric.barrier()  # every process has read the files that the main one may now replace
    record(resumed, session, parts.config, now["data"], console)
    if resumed.deliberate and session.fabric.is_global_zero:
        write_ledger(path, rows, schedule)
    console.print(f"resumed at step {session.context.step} of {session.context.duration.total_steps}")


def _fit(session: Session, run: Path) -> None:
    import errno

    from tlvision.training.loop import fit

    try:
        with session.interruptible():
            fit(session)
            if session.interrupted() or session.paused:
                session.save("last")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise RunError(f"the disk is full while writing to {run}; free space, then --resume {run}") from error
    if session.interrupted():
        raise KeyboardInterrupt(f"stopped at step {session.context.step}; go on with: tlvision train --resume {run}")


def _finish(session: Session, parts: Run, run: Path, console: Console) -> dict[str, Any]:
    """Publish the results of the selected checkpoint, draw pictures, write the report and print what to do next."""
    from tlvision.training import fabric as engine

    if session.stopped:
        console.print(f"stopped early: {session.stopped}")
    best = _publish(run, parts.task.results_name)
    metrics = analyse_run(run, session.evaluator, parts.task, parts.config)
    if parts.config.run.report:
        draw_pictures(run, parts)
        write_report_data(run, parts, session.evaluator.ground_truth, metrics.get("analysis", {}))
        write_report(run)
    console.print(format_metrics(metrics), highlight=False, markup=False)
    if "selection" in metrics:
        console.print(selection_sentence(metrics), highlight=False)
    if session.evaluator.left_out:
        terminal.note(
            console,
            f"left out of predictions.json: {counted(session.evaluator.left_out, 'detection')} of classes that "
            f"{parts.val.path.name} does not have",
        )
    shown = f"pictures       {run / 'pictures'}\nreport         {run / 'report.html'}\n"
    console.print(
        f"best weights   {best}\n{shown if parts.config.run.report else ''}"
        f"next           tlvision predict --run {run} IMAGES --output predictions",
        highlight=False,
        soft_wrap=True,
    )
    mark_finished(run, session.context.step, engine.peak_memory(session.fabric.device))
    session.call("after_run")
    return metrics


def _publish(run: Path, predictions: str) -> Path:
    """Copy the results of the best checkpoint to the top of the run's folder and return the checkpoint."""
    try:
        best = recover_folder(run / "checkpoints" / "best")
    except InputError as error:
        raise RunError(
            f"{run}: no epoch was evaluated, so there is no best checkpoint. Resume with more train.epochs."
        ) from error
    copy_any(best / "metrics.json", run / "metrics.json")
    copy_any(best / predictions, run / predictions)
    return best


def selection_sentence(metrics: Mapping[str, Any]) -> str:
    """Return of which domain the numbers are, and what chose the checkpoint that they are of."""
    chosen = metrics["selection"]
    seen = (
        "labels of the target chose it" if chosen["uses_target_labels"] else "no label of the target took part in that"
    )
    return f"on the {metrics['domain']}; checkpoint chosen by {chosen['by']}: {seen}"
