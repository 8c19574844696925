"""Measure training on a GPU next to upstream's trainers on the same images, within a time limit.

    python tools/bench.py gpu                        # ../shared or $TLVISION_SHARED holds data/ and weights/
    python tools/bench.py gpu --small                # a rehearsal: small images, few steps, also without a GPU

Writes gpu.json after each part, and gpu.md, into --out; what does not fit into --minutes is listed as not measured.
`python tools/bench.py tables gpu.json` puts the tables into the docs.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parents[1] / "bench.py"
CPU = f"CPU ({platform.machine()})"
LEAST = 12.0
"""Seconds that must be left to begin another part."""


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4.0, help="no part goes on for longer")
    parser.add_argument("--small", action="store_true", help="rehearse: small images, few steps")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="parts whose name has one of these words")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("TLVISION_SHARED", "../shared")))
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "runs/gpu")))
    parser.add_argument("--part", help=argparse.SUPPRESS)
    return parser.parse_args()


def parts(small: bool, cuda: bool) -> Iterator[dict[str, Any]]:
    """Yield the parts, the most telling first."""
    from benchmarks.gpu_parts import FULL, MODELS, SMALL

    first, *others = MODELS
    for name in (first, *others[1:], others[0]):
        for precision in ("bf16", "fp32") if name == first or not small else ("fp32",):
            for side in ("ours", "upstream"):
                if cuda or (precision, side, MODELS[name].plugin) != ("bf16", "upstream", "yolo"):  # it refuses
                    yield {"part": "steps", "model": name, "precision": precision, "side": side}
        if name == first:
            yield {"part": "epochs", "side": "ours"}
            yield {"part": "epochs", "side": "upstream"}
            yield {"part": "profile", "precision": "bf16"}
            for workers in (SMALL if small else FULL).workers:
                yield {"part": "loading", "workers": workers}


def run_part(options: argparse.Namespace, part: dict[str, Any]) -> dict[str, Any]:
    """Do one part in this process."""
    from benchmarks import gpu_parts

    sizes = gpu_parts.SMALL if options.small else gpu_parts.FULL
    out = options.out / "work" / "-".join(str(value).replace(" ", "_") for value in part.values())
    shutil.rmtree(out, ignore_errors=True)  # of an earlier benchmark in the same --out
    given: dict[str, Any] = {"sizes": sizes, "shared": options.shared.resolve(), "out": out.resolve()}
    if part["part"] == "steps":
        act = gpu_parts.steps_ours if part["side"] == "ours" else gpu_parts.steps_upstream
        return act(part["model"], part["precision"], **given)
    if part["part"] == "epochs":
        return gpu_parts.epochs(part["side"], **given)
    if part["part"] == "profile":
        return gpu_parts.profile(part["precision"], **given)
    return gpu_parts.loading(part["workers"], **given)


def machine() -> dict[str, Any]:
    """Return the versions and settings that the numbers depend on."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name(0) if cuda else CPU,
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
    }


def start_part(options: argparse.Namespace, part: dict[str, Any], left: float) -> dict[str, Any]:
    """Do one part in a process of its own, for at most `left` seconds; {"error": …} where it fails."""
    command = [sys.executable, str(BENCH), "gpu", "--part", json.dumps(part), "--shared", str(options.shared)]
    command += ["--out", str(options.out), *(["--small"] if options.small else [])]
    # Threads of torch that share a busy core wait for each other: a step of a rehearsal took 25 times as long.
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if options.small else {})
    # A group of its own: what a part has started (loading processes, another trainer) must not outlive it.
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, errors = process.communicate(timeout=left)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"error": "the time was over"}
    if process.returncode != 0:
        log = options.out / "failures.txt"
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(part)}\n{output[-4000:]}\n{errors[-8000:]}\n\n")
        return {"error": (errors.strip().splitlines() or ["no message"])[-1][:300]}
    return dict(json.loads(output.strip().splitlines()[-1]))


def main() -> None:
    """Do one part, or all of them one after the other, each in a process of its own."""
    options = arguments()
    if options.part:
        print(json.dumps(run_part(options, json.loads(options.part))))
        return
    from benchmarks.tables import write_markdown

    began = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {**machine(), "small": options.small, "rows": []}
    for part in parts(options.small, report["device"] != CPU):
        if options.only and not any(word in json.dumps(part) for word in options.only):
            continue
        before = time.perf_counter()
        left = 60 * options.minutes - (before - began)
        row = start_part(options, part, left) if left > LEAST else {"error": "the time was over"}
        taken = time.perf_counter() - before
        report["rows"].append({**part, **row, "seconds": round(taken, 1)})
        (options.out / "gpu.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        write_markdown(report, options.out / "gpu.md")
        told = row.get("error") or ", ".join(f"{key} {value:.4g}" for key, value in row.items() if type(value) is float)
        print(f"{' '.join(str(value) for value in part.values()):<52} {taken:5.1f} s  {told}", flush=True)
    print(f"\n{options.out / 'gpu.md'}: {(time.perf_counter() - began) / 60:.1f} minutes")
    failed = sum("error" in row for row in report["rows"])
    if failed:
        total, page = len(report["rows"]), options.out / "gpu.md"
        raise SystemExit(f"error: {failed} of {total} parts were not measured; {page} says why")


if __name__ == "__main__":
    main()
