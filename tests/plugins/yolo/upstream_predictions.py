"""Print what ultralytics' own predictor or validator finds in files, as JSON; a process of its own, which it changes.

python upstream_predictions.py predict|validate WEIGHTS IMAGE_SIZE SAME_RESIZE OUT FILE …
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

SETTINGS = {"conf": 0.001, "iou": 0.7, "max_det": 300, "device": "cpu", "verbose": False, "rect": True}


def main() -> None:
    """Run as the command line says."""
    kind, weights, image_size, same_resize, out, *files = sys.argv[1:]
    import cv2
    from ultralytics import YOLO

    if same_resize == "yes":
        helpers = runpy.run_path(str(Path(__file__).resolve().parents[2] / "helpers" / "core_resize.py"))
        cv2.resize = helpers["resize_as_core"]
    model = YOLO(weights)
    found = (
        predict(model, files, int(image_size)) if kind == "predict" else validate(model, files, int(image_size), out)
    )
    Path(out, f"{kind}.json").write_text(json.dumps(found), encoding="utf-8")


def predict(model: Any, files: list[str], image_size: int) -> dict[str, Any]:
    """Return {name: [[x0, y0, x1, y1, score, class], …]}."""
    results = {Path(file).name: model.predict(file, imgsz=image_size, **SETTINGS)[0] for file in files}
    return {name: result.boxes.data.tolist() for name, result in results.items()}


def validate(model: Any, files: list[str], image_size: int, out: str) -> dict[str, Any]:
    """Return {name: [[x0, y0, x1, y1, score, class], …]}, from the predictions.json of the validator."""
    folder = Path(files[0]).parent
    description = Path(out, "data.yaml")
    names = {str(number): name for number, name in model.names.items()}
    description.write_text(
        json.dumps({"path": str(folder), "train": ".", "val": ".", "names": names}), encoding="utf-8"
    )
    model.val(
        data=str(description), imgsz=image_size, batch=1, workers=0, plots=False, save_json=True, project=out,
        name="val", exist_ok=True, **SETTINGS,
    )  # fmt: skip
    found: dict[str, Any] = {Path(file).name: [] for file in files}
    for row in json.loads(Path(out, "val", "predictions.json").read_text(encoding="utf-8")):
        x, y, width, height = row["bbox"]
        found[row["file_name"]].append([x, y, x + width, y + height, row["score"], row["category_id"] - 1])
    return found


if __name__ == "__main__":
    main()
