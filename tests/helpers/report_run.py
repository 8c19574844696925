"""A run folder that a report can be written about: small, with every file that a run of today leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlvision.evaluation.matching import match
from tlvision.evaluation.object_analysis import analyse_objects
from tlvision.evaluation.read import GroundTruth

NAMES = ("RBC", "<script>alert('x')</script> \"&\"", "Platelets")
CONFIG = "model: {plugin: yolo, arch: yolov8n, weights: coco}\ndata:\n  train: {json: cells/train.json}\n"
LEDGER_ROWS = [
    {"parameter": "a", "shape": [10, 10], "group": "backbone.0", "role": "backbone", "lr": 0.1, "trainable_from": None},
    {"parameter": "b", "shape": [10, 20], "group": "backbone.1", "role": "backbone", "lr": 0.02, "trainable_from": 50},
    {"parameter": "c", "shape": [10, 30], "group": "head", "role": "head", "lr": 0.5, "trainable_from": 0},
    {"parameter": "d", "shape": [400], "group": "head", "role": "head", "lr": 0.25, "trainable_from": 0, "new": 1},
]


def analysis(seed: int = 0, images: int = 30) -> dict[str, Any]:
    """Return the analysis of random detections, in the form of metrics.json."""
    rng = np.random.default_rng(seed)
    objects, found = [], []
    for image in range(images):
        for _ in range(5):
            box = [*rng.integers(0, 300, 2).tolist(), 40, 40]
            row = {"image_id": image, "category_id": int(rng.integers(3)), "bbox": box}
            objects.append({**row, "area": 1600, "iscrowd": 0})
            category = row["category_id"] if rng.random() < 0.8 else int(rng.integers(3))
            place = [box[0] + int(rng.integers(0, 12)), *box[1:]]
            found.append({**row, "category_id": category, "bbox": place, "score": float(rng.random())})
    categories = [{"id": index, "name": name} for index, name in enumerate(NAMES)]
    truth = GroundTruth(Path("val.json"), [{"id": image} for image in range(images)], categories, objects, 0)
    measured: dict[str, Any] = json.loads(json.dumps(analyse_objects(match(truth, found))))
    return measured


def metrics() -> dict[str, Any]:
    """Return the content of metrics.json of boxes."""
    row = {"AP": 0.7, "AP50": 0.9, "ground_truths": 9}
    return {
        "task": "detect",
        "protocol": {"hash": "abcdef123456", "library": "faster-coco-eval 1.8.0"},
        "bbox": {"AP": 0.61234, "AP50": 0.9, "APl": None},
        "per_class": {NAMES[0]: row, NAMES[1]: {**row, "AP": None, "ground_truths": 0}, NAMES[2]: {**row, "AP": 0.25}},
        "absent_classes": [NAMES[1]],
        "counts": {"images": 4},
        "analysis": {"bbox": analysis()},
    }


def log_lines() -> list[dict[str, Any]]:
    """Return the lines of log.jsonl."""
    lines: list[dict[str, Any]] = []
    for step in range(60):
        losses = {"box": 2.0 / (step + 1), "cls": 1.0}
        measures = {"pseudo_labels/labels": float(step), "pseudo_labels/share": 0.5}
        lines.append({"kind": "step", "step": step, "epoch": step // 20, "lr": 1e-3, "losses": losses,
                      "loss": sum(losses.values()), "images_per_second": 9.0, "measures": measures})  # fmt: skip
        if step % 20 == 19:
            values = {"bbox/AP": step / 100, "bbox/AP50": step / 80, "bbox/APs": None}
            lines.append({"kind": "evaluation", "step": step, "epoch": step // 20 + 1, "metrics": values})
    return [*lines, {"kind": "notice", "step": 59, "text": "no pseudo-label passed the threshold"}]


def write_run(folder: Path, worst: int = 6, side: int = 120) -> Path:
    """Write a run folder with `worst` worst images and two pictures, and return it."""
    (folder / "pictures" / "worst").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    rng = np.random.default_rng(0)
    rows = []
    for number in range(worst):
        row = {"image": f"cells/{number} <b>.jpg", "value": 0.1 / (number + 1), "classes": [NAMES[number % 3]]}
        row["errors"] = {"missed": 2} if number % 2 else {"missed": 1, "background": number + 1}
        for name in ("truth", "prediction"):
            row[name] = f"pictures/worst/{number:02}_{name}.jpg"
            Image.fromarray(rng.integers(0, 255, (side * 3 // 4, side, 3), np.uint8)).save(folder / row[name])
        rows.append(row)
    balance = {"train": {NAMES[0]: 90, NAMES[1]: 3, NAMES[2]: 30}, "val": {NAMES[0]: 9, NAMES[1]: 0, NAMES[2]: 3}}
    weights = {"source": "weights/coco.pt", "sha256": "fedcba9876543210"}
    data = {
        "val": {"labels": "cells/val.json", "sha256": "0123456789abcdef", "images": 4, "images_sha256": "00ff00ff00ff"}
    }
    contents = {
        "metrics": metrics(),
        "ledger": {"schedule": {"schedule": "linear", "steps": 60}, "rows": LEDGER_ROWS},
        "classes": {"names": list(NAMES), "source_ids": [1, 2, 3]},
        "environment": {
            "commit": "abc1234",
            "packages": {"torch": "2.15"},
            "seed": 3,
            "data": data,
            "weights": weights,
        },
        "report": {
            "class_balance": balance,
            "worst": {"kind": "bbox", "measure": "AP50_lost", "images": rows},
        },
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log_lines()))
    Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(folder / "pictures" / "one.png")
    Image.fromarray(np.zeros((500, 1600, 3), np.uint8)).save(folder / "pictures" / "two.jpg")
    return folder
