"""Create the folder of a run, and read files of an existing one."""

from __future__ import annotations

import contextlib
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.files.json_files import read_object, write_json
from tlvision.types import ClassMap, InputError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

REMEDY = "Restore the file from a copy, or use another run."


def read_classes(run: Path) -> ClassMap:
    """Return the classes of a run, or of a checkpoint folder.

    Raises InputError that names classes.json if it is missing or damaged.
    """
    path = in_run(run, "classes.json")
    try:
        return ClassMap.from_json(read_object(path, REMEDY))
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"'{path}' is damaged: {error}. {REMEDY}") from None


_FILES = (
    "calibration.json",
    "config.yaml",
    "environment.json",
    "classes.json",
    "finished.json",
    "ledger.json",
    "log.jsonl",
    "metrics.json",
    "report.html",
    "report.json",
    "thresholds.json",
)
_FOLDERS = ("checkpoints", "pictures", "evaluations")


FINISHED = "finished.json"
"""The last file that a run writes."""


def mark_finished(run: Path, step: int, peak_memory: int | None = None) -> None:
    """Record that a run has come to its end, and written its results, at a step; peak_memory: bytes."""
    write_json(run / FINISHED, {"step": step} | ({} if peak_memory is None else {"peak_memory": peak_memory}))


def is_finished(run: Path) -> bool:
    """Return whether a run has come to its end; earlier versions wrote report.html last."""
    return (run / FINISHED).exists() or (run / "report.html").exists()


def forget_results(run: Path) -> None:
    """Remove what belongs to an earlier end of a run that is trained further: mark, thresholds, calibration, report."""
    for name in (FINISHED, "thresholds.json", "calibration.json", "report.html"):
        (run / name).unlink(missing_ok=True)


def check_kinds(run: Path) -> None:
    """Raise InputError if a run's folder has a folder where the run writes a file, or the other way round."""
    for names, is_kind, wanted in ((_FILES, Path.is_file, "a file"), (_FOLDERS, Path.is_dir, "a folder")):
        for name in names:
            if (run / name).exists() and not is_kind(run / name):
                raise InputError(f"'{run / name}' is not {wanted}, as a run has it. Move it elsewhere, then resume.")


def check_classes(run: Path, folder: Path, classes: ClassMap) -> None:
    """Compare a run's classes with the names in a checkpoint's weights, which decide, and with the checkpoint's own.

    folder: the checkpoint folder. classes: what classes.json of the run holds.

    Raises InputError that shows both.
    """
    from tlvision.training.checkpoint import MODEL, read_class_names

    trained = read_class_names(folder / MODEL)
    if trained is not None and trained != classes.names:
        raise InputError(
            f"'{run / 'classes.json'}' has the classes {list(classes.names)}, but the weights in '{folder / MODEL}' "
            f"were trained with {list(trained)}. Restore classes.json; '{folder / 'classes.json'}' is a copy."
        )
    if (folder / "classes.json").is_file() and (own := read_classes(folder)) != classes:
        raise InputError(
            f"'{run / 'classes.json'}' has the ids {list(classes.source_ids)}, but '{folder / 'classes.json'}' has "
            f"{list(own.source_ids)}. Restore classes.json from that copy."
        )


def in_run(run: Path, name: str) -> Path:
    """Return the path of a file that every run has; InputError if `run` is not the folder of one."""
    path = run / name
    try:
        found = path.is_file()
    except (OSError, ValueError) as error:
        raise InputError(f"'{run}' is not the folder of a run ({error})") from error
    if not found:
        raise InputError(f"'{run}' is not the folder of a run: it has no {name}")
    return path


def new_folder(out: str | Path, fabric: Fabric, config: str = "") -> Path:
    """Claim `out` for a run, or `out-2`, `out-3` … where there is something already, and return it.

    config: content of config.yaml, written at once. Creating that file exclusively is the claim: of two runs that
    start together, one gets the folder and the other the next number. Nothing is overwritten.

    Raises InputError in every process if no such folder can be made.
    """
    chosen, problem = "", ""
    if fabric.is_global_zero:
        try:
            chosen = str(_claim(out, config))
        except InputError as error:  # sent to the other processes: they would wait for the folder forever
            problem = str(error)
    chosen, problem = fabric.broadcast((chosen, problem), src=0)
    if problem:
        raise InputError(problem)
    return Path(chosen)


def _claim(out: str | Path, config: str) -> Path:
    path = Path(out)
    if str(out).strip() == "" or path.name in {"", ".."}:
        raise InputError(f"run.out: {str(out)!r} does not name a folder. Set a new folder, such as runs/first.")
    for number in count(1):
        candidate = path if number == 1 else path.with_name(f"{path.name}-{number}")
        try:
            candidate.mkdir(parents=True, exist_ok=True)
            if any(candidate.iterdir()):
                continue
            with (candidate / "config.yaml").open("x", encoding="utf-8") as file:
                file.write(config)
            return candidate
        except FileExistsError as error:
            if candidate.is_dir():
                continue  # another run has just claimed it
            raise InputError(f"run.out: '{error.filename or candidate}' is a file. Set a new folder.") from error
        except OSError as error:
            raise InputError(
                f"run.out: the folder '{_short(candidate)}' cannot be made ({error.strerror or error}). Set another "
                "folder."
            ) from error
        except ValueError as error:  # a NUL byte, or text that no file system can encode
            raise InputError(f"run.out: {_short(out)!r} is not a valid path ({error}). Set another folder.") from error
    raise AssertionError("count() does not end")


def _short(path: object) -> str:
    text = str(path)
    return text if len(text) <= 200 else f"{text[:200]}…"


def release_folder(run: Path) -> None:
    """Remove the files of a run that could not start, so that its folder is free again; other files stay."""
    with contextlib.suppress(OSError):
        others = [path for path in run.iterdir() if path.name != "config.yaml"]
        if not others:
            (run / "config.yaml").unlink()
            run.rmdir()
