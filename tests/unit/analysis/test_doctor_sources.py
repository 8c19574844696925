"""The doctor finds what the SOURCE.md files of the real sets warn of, as far as data alone can show it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from doctor_set import findings_of
from tlvision.analysis.doctor import Finding, examine
from tlvision.config.load import load_config

OBJECTS = ("bccd", "coco128", "deeppcb", "driving_carla", "driving_kitti")
LABEL_MAPS = ("camvid_day", "camvid_dusk", "crackforest")


def config_of_set(shared: Path, name: str) -> dict[str, Any]:
    folder = shared / "data" / name
    data: dict[str, Any] = {}
    for part in ("train", "val"):
        if name in OBJECTS:
            data[part] = {"json": str(folder / f"{part}.json"), "images": str(folder / "images")}
        else:
            data[part] = {"masks": str(folder / "masks" / part), "images": str(folder / "images" / part)}
    if name in LABEL_MAPS:
        data["classes"] = str(folder / "classes.txt")
    arch = "tiny_detector" if name in OBJECTS else "tiny_segmenter"
    model = {"plugin": "toy", "arch": arch, "weights": "none"}
    return {"model": model, "data": data, "train": {"epochs": 1}, "run": {"out": "run"}}


@cache
def found(shared: Path, name: str) -> tuple[Finding, ...]:
    return tuple(findings_of(config_of_set(shared, name)))


WARNINGS = {
    ("bccd", "very unequal counts"): "'RBC' has 3084 objects, 'WBC' 277",
    ("coco128", "train: no box file: 2"): "data.train: 2 of 128 images without an object",
    ("coco128", "71 of 80 classes occur"): "no object of 9 classes",
    ("coco128", "crowd regions are absent"): "data.val: file names and classes are those of COCO",
    (
        "coco128",
        "in the training set of every COCO-pretrained detector",
    ): "data.train: file names and classes are those",
    ("deeppcb", "nearly binary: a strong shift from photographs"): "98% of the pixels are nearly black or white",
    (
        "deeppcb",
        "neighbouring crops on both sides of the split",
    ): "70 of 70 images of data.val belong by their file names",
    ("driving_carla", "distant vehicles can be tiny"): "data.val: 50% of the objects are less than 8 px",
    ("driving_kitti", "many vehicles small"): "data.train: 54% of the objects are small",
    ("camvid_day", "train and val look alike"): "61% of the images of data.val look like one of data.train",
    ("camvid_day", "frames of one drive"): "groups that data.train has too (0016E5)",
    ("camvid_dusk", "train and val look alike"): "94% of the images of data.val look like one of data.train",
    ("camvid_day", "pole 1.01%"): "thin classes, with most pixels within 2 px of their border: pole 92%",
    (
        "crackforest",
        "about 1.5% of the pixels",
    ): "less than 2% of the labelled pixels: crack 1.57%",
    ("crackforest", "thin cracks"): "with most pixels within 2 px of their border: crack 94%",
}
"""(set, what its SOURCE.md warns of) -> what is found."""


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize(("name", "warning"), WARNINGS)
def test_what_the_source_warns_of_is_found(name: str, warning: str, shared: Path) -> None:
    findings = found(shared, name)
    assert [each for each in findings if WARNINGS[name, warning] in each.sentence], [each.sentence for each in findings]


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("name", [*OBJECTS, *LABEL_MAPS])
def test_no_artifact_and_no_error_is_found_in_real_sets(name: str, shared: Path) -> None:
    findings = found(shared, name)
    assert [each.sentence for each in findings if each.check == "artifacts" or each.severity == "error"] == []


@pytest.mark.slow
@pytest.mark.shared
def test_cells_without_a_label_are_found_with_a_run(shared: Path, tmp_path: Path) -> None:
    """BCCD: "Red cells are not all labelled". After two short epochs the model finds cells that have no label."""
    pytest.importorskip("tlvision_yolo.upstream", reason="ultralytics is an extra")
    import tlvision

    config = config_of_set(shared, "bccd")
    config["model"] = {
        "plugin": "yolo",
        "arch": "yolov8n",
        "weights": str(shared / "weights" / "yolov8n-coco-from-int8.pt"),
    }
    config["data"] |= {"image_size": 256, "batch": {"labelled": 8}, "workers": 0}
    config["train"] = {"epochs": 2, "optimizer": "adamw", "lr": 5e-4, "device": "cpu"}
    config["run"] = {"out": str(tmp_path / "run"), "report": False}
    run = tlvision.train(config).run
    _, findings = examine(load_config(config), run=run)
    missing = next(
        each for each in findings if each.sentence.startswith("data.val") and "without a label" in each.sentence
    )
    cells = [place for place in missing.where if place["predicted"] == "RBC"]
    assert len(cells) >= 20
    assert len(cells) > 0.8 * len(missing.where)
