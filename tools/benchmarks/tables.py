"""Write the tables of the docs from docs/benchmarks/*.json, and docs/benchmarks-gpu.md from results of `bench.py gpu`.

python tools/bench.py tables                        # tables of README.md and docs/*.md
python tools/bench.py tables runs/gpu/gpu.json      # docs/benchmarks-gpu.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks import page_tables

PAGE = Path("docs/benchmarks-gpu.md")
HEAD = """# Benchmarks on a GPU

Written by `python tools/bench.py tables` from the measurements of `python tools/bench.py gpu`; do not edit.
"""


def write_markdown(report: dict[str, Any], path: Path) -> None:
    """Write the tables of one report."""
    rows = report["rows"]
    blocks = [HEAD, _about(report), _steps(rows), _epochs(rows), _loading(rows), _profile(rows), _failures(rows)]
    path.write_text("\n".join(block for block in blocks if block), encoding="utf-8")


def _about(report: dict[str, Any]) -> str:
    small = " A rehearsal with small images and few steps: these numbers say nothing." if report["small"] else ""
    return (
        f"{report['date']}, {report['device']}, {report['cores']} CPU cores, Python {report['python']}, "
        f"torch {report['torch']}.{small}\n"
    )


def _table(heads: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


def _steps(rows: list[dict[str, Any]]) -> str:
    found = [row for row in rows if row["part"] == "steps" and "error" not in row]
    if not found:
        return ""
    heads = ("model", "precision", "trainer", "images/s", "step, ms", "of upstream's step", "bare model", "waits for "
             "images", "peak memory, MiB")  # fmt: skip
    upstream = {(row["model"], row["precision"]): row for row in found if row["side"] == "upstream"}
    lines = []
    for row in found:
        beside = upstream.get((row["model"], row["precision"])) if row["side"] == "ours" else None
        lines.append(
            [
                f"{row['model']}, batch {row['batch']}",
                row["precision"],
                row["side"],
                f"{row['images_per_second']:.0f}",
                f"{row['step_ms']:.1f}",
                f"{row['step_ms'] / beside['step_ms']:.2f}" if beside else "",
                f"{100 * row['bare_share']:.0f} %" if "bare_share" in row else "",
                f"{100 * row['waiting_share']:.0f} %",
                f"{row['peak_memory_mib']:.0f}" if row["peak_memory_mib"] else "",
            ]
        )
    return (
        "## Steps\n\nLoading, forward, backward, optimizer and average of one batch of real images; `bare model` is "
        f"the share of loss and backward alone.\n\n{_table(heads, lines)}"
    )


def _epochs(rows: list[dict[str, Any]]) -> str:
    found = [row for row in rows if row["part"] == "epochs" and "error" not in row]
    if not found:
        return ""
    lines = [
        [
            row["side"],
            f"{row['ap']:.4f}",
            f"{row['ap50']:.4f}",
            f"{row['train_seconds']:.0f}",
            f"{row['wall_seconds']:.0f}",
        ]
        for row in found
    ]
    work = f"{found[0]['epochs']} epochs at {found[0]['image_size']} px"
    return (
        f"## YOLOv8n on BCCD\n\n{work}, COCO weights, one seed, scored by pycocotools.\n\n"
        f"{_table(('trainer', 'AP', 'AP50', 'training, s', 'whole process, s'), lines)}"
    )


def _loading(rows: list[dict[str, Any]]) -> str:
    found = [row for row in rows if row["part"] == "loading" and "error" not in row]
    lines = [[str(row["workers"]), f"{row['ours']:.0f}", f"{row['ultralytics']:.0f}"] for row in found]
    heads = ("processes", "ours, images/s", "ultralytics, images/s")
    return f"## Loading\n\nMosaics of four, collated.\n\n{_table(heads, lines)}" if found else ""


def _profile(rows: list[dict[str, Any]]) -> str:
    found = [row for row in rows if row["part"] == "profile" and "error" not in row]
    if not found:
        return ""
    row = found[0]
    lines = [[f"`{one['name']}`", f"{one['ms']:.2f}", str(one["calls"])] for one in row["operators"]]
    text = f"{row['precision']}, a step takes {row['step_ms']:.1f} ms under the profiler."
    if row["idle_share"] is not None:
        text += f" The device is idle for {100 * row['idle_share']:.0f} % of it."
    return f"## Where a step of YOLOv8n goes\n\n{text}\n\n{_table(('operator', 'ms a step', 'calls'), lines)}"


def _failures(rows: list[dict[str, Any]]) -> str:
    failed = [row for row in rows if "error" in row]
    keys = ("part", "model", "precision", "side", "workers")
    lines = [[" ".join(str(row[key]) for key in keys if key in row), row["error"].replace("|", "/")] for row in failed]
    return f"## Not measured\n\n{_table(('part', 'why'), lines)}" if failed else ""


def main() -> None:
    """Write the tables of the docs, or the page about a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, nargs="?", help="gpu.json")
    options = parser.parse_args()
    if options.report is None:
        for path, text in page_tables.update(Path()).items():
            path.write_text(text, encoding="utf-8")
        return
    report = json.loads(options.report.read_text(encoding="utf-8"))
    if report["small"]:
        raise SystemExit(f"error: {options.report} is a rehearsal (--small); its numbers do not belong into the docs")
    write_markdown(report, PAGE)
    print(PAGE)


if __name__ == "__main__":
    main()
