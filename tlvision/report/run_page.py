"""The report of a run: answer first, then the worst images, then what is behind the numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tlvision.report.page import Page, Section, section, write_page
from tlvision.report.run_files import RunFiles, mapping, read_run
from tlvision.report.sections.answer import answer, facts, tiles
from tlvision.report.sections.classes import balance_section, class_section, numbers_section
from tlvision.report.sections.label_maps import label_map_section
from tlvision.report.sections.ledger import ledger_section
from tlvision.report.sections.objects import calibration_section, errors_section, operating_section
from tlvision.report.sections.provenance import provenance_section
from tlvision.report.sections.training import training_section
from tlvision.report.sections.worst import examples_section, worst_section

_BUILDERS: tuple[tuple[str, Callable[[RunFiles], Section | None]], ...] = (
    ("Worst images", worst_section),
    ("Classes", class_section),
    ("Errors", errors_section),
    ("Errors of label maps", label_map_section),
    ("Operating point", operating_section),
    ("Calibration", calibration_section),
    ("Training", training_section),
    ("Class balance", balance_section),
    ("Examples", examples_section),
    ("Phases and ledger", ledger_section),
    ("All numbers", numbers_section),
    ("Provenance", provenance_section),
)


def write_report(run: str | Path) -> Path:
    """Write `report.html` into the folder of a run and return its path.

    run: a folder with any of config.yaml, environment.json, classes.json, metrics.json, log.jsonl, ledger.json,
         report.json and pictures/*.jpg or *.png. The report names missing and broken files, and leaves out the
         sections that need them. Pictures are embedded, 48 kB each at most.

    Raises InputError if the folder does not exist.
    """
    files = read_run(run)
    sections = [_built(files, title, build) for title, build in _BUILDERS]
    sentence, details = answer(files)
    if not sentence:
        files.notes.insert(0, "There are no final metrics (metrics.json).")
    elif not mapping(files.metrics, "analysis"):
        files.notes.append(
            "metrics.json has no analysis (an earlier version?): operating point, errors and calibration are left out."
        )
    if files.notes:
        sections.append(section("Missing", [{"notes": files.notes}]))
    page = Page(
        title=files.folder.resolve().name,
        answer=sentence,
        details=details,
        facts=facts(files),
        tiles=tiles(files),
        sections=sections,
    )
    return write_page(files.folder / "report.html", page)


def _built(files: RunFiles, title: str, build: Callable[[RunFiles], Section | None]) -> Section | None:
    """Return a section; a file of the run with other content than a run writes costs this section only."""
    try:
        return build(files)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        files.notes.append(
            f"{title}: left out, the run's files do not have the usual content ({type(error).__name__})."
        )
        return None
