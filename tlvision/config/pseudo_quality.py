"""What the pseudo-labels of a run's final teacher were worth, where the images of the target have labels after all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tlvision.config.evaluate import evaluate_run
from tlvision.config.schema import DatasetSettings
from tlvision.evaluation import pseudo_label_quality


def write_pseudo_label_quality(run: Path, oracle: DatasetSettings) -> dict[str, Any] | None:
    """Predict the images of `oracle` with the best weights of a run, and compare over thresholds.

    Writes `pseudo_labels.json` into the run's folder, where a second call finds it, and returns its content (see
    `tlvision.evaluation.pseudo_label_quality`); None for label maps, whose confidence no file holds.
    """
    if oracle.json_ is None:
        return None
    path = run / "pseudo_labels.json"
    if not path.exists():
        _, folder = evaluate_run(run, Path(oracle.json_), Path(oracle.images))
        restricted = folder / "ground_truth.json"  # where data.classes leaves some out
        truth = restricted if restricted.exists() else Path(oracle.json_)
        path.write_text(json.dumps(pseudo_label_quality(truth, folder / "predictions.json")), encoding="utf-8")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
