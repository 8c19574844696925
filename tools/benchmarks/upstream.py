"""Train one config with upstream's own trainer, and leave its predictions: the other side of an experiment.

    theirs: {command: [python, tools/bench.py, upstream, --last]}      # a variant in an experiment's file

    python tools/bench.py upstream [--last] [--config-lr] [--freeze N] [--precision bf16] CONFIG.yaml

Data, weights, architecture, epochs, image size, batch and seed are those of the config; the recipe is upstream's. The
folder `run.out` gets predictions.json or predictions/, which the experiment measures, and upstream.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from benchmarks.parity.runner import Job, run
from benchmarks.parity.tasks import Files

from tlvision.config.load import load_config
from tlvision.config.schema import Config, DatasetSettings
from tlvision.types import InputError


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--last", action="store_true", help="evaluate after the last epoch only, with the last weights")
    parser.add_argument("--config-lr", action="store_true", help="train at train.lr of the config")
    parser.add_argument("--freeze", type=int, help="freeze the first so many of upstream's layers")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="default: upstream's choice")
    parser.add_argument("config", type=Path)
    return parser.parse_args()


def job_of(config: Config, options: argparse.Namespace) -> Job:
    """Return the job that trains as a config says. Raises InputError if upstream cannot, as for a part of the data."""
    if config.data.val is None:
        raise InputError("upstream: data.val is missing")
    if config.train.lr == "auto" and options.config_lr:
        raise InputError("upstream: --config-lr needs a number in train.lr, got auto")
    return Job(
        plugin=config.model.plugin,
        files=Files(
            Path(config.data.train.images),
            labels_of(config.data.train, "data.train"),
            Path(config.data.val.images),
            labels_of(config.data.val, "data.val"),
            Path(config.data.classes) if isinstance(config.data.classes, str) else None,
        ),
        weights=config.model.weights,
        arch=config.model.arch,
        epochs=config.train.epochs,
        image_size=config.data.image_size,
        batch=config.data.batch.labelled,
        seed=config.train.seed,
        out=Path(config.run.out).resolve() / "upstream",
        crop=config.data.augment.crop or None,
        freeze=options.freeze,
        last=options.last,
        lr=float(config.train.lr) if options.config_lr else None,
        precision=options.precision,
    )


def labels_of(settings: DatasetSettings, key: str) -> Path:
    """Return the json or the folder of label maps of a data set."""
    if settings.subset is not None:
        raise InputError(f"upstream: {key}.subset is set, and upstream reads whole files. Write the part into a json.")
    labels = settings.json_ or settings.masks
    if labels is None:
        raise InputError(f"upstream: {key} has neither json nor masks")
    return Path(labels)


def main() -> None:
    """Train, and put the predictions where the experiment looks for them."""
    options = arguments()
    config = load_config(options.config, beside=False)
    out = Path(config.run.out)
    result = run(job_of(config, options))
    found = Path(result["predictions"])
    if found.is_dir():
        shutil.copytree(found, out / "predictions", dirs_exist_ok=True)
    else:
        shutil.copyfile(found, out / "predictions.json")
    (out / "upstream.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
