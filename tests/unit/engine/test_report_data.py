"""What the end of a run leaves for its report: the worst images with pictures, and class balance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import tlvision
from tlvision.engine.operating_point import read_thresholds
from tlvision.evaluation.image_costs import worst_images


def test_a_run_leaves_its_worst_images_and_class_balance_for_the_report(
    tiny_config: dict[str, Any], tiny_dataset: Path
) -> None:
    tiny_config["run"]["report"] = True
    run = tlvision.train(tiny_config).run
    content: dict[str, Any] = json.loads((run / "report.json").read_text())
    truth = {name: json.loads((tiny_dataset / f"{name}.json").read_text()) for name in ("train", "val")}
    for name, document in truth.items():
        names = {row["id"]: row["name"] for row in document["categories"]}
        labels = [names[row["category_id"]] for row in document["annotations"] if not row.get("iscrowd")]
        assert content["class_balance"][name] == {each: labels.count(each) for each in ("dark", "light")}
    worst = content["worst"]
    assert (worst["kind"], worst["measure"]) == ("bbox", "AP50_lost")
    expected = worst_images(tiny_dataset / "val.json", run / "predictions.json", read_thresholds(run))
    assert expected
    assert [row["value"] for row in worst["images"]] == pytest.approx([image.cost for image in expected])
    assert [row["errors"] for row in worst["images"]] == [image.kinds for image in expected]
    names = {row["id"]: row["file_name"] for row in truth["val"]["images"]}
    assert [row["image"] for row in worst["images"]] == [names[image.image_id] for image in expected]
    for row in worst["images"]:
        for key in ("truth", "prediction"):
            assert (run / row[key]).stat().st_size <= 48_000
            with Image.open(run / row[key]) as picture:
                assert max(picture.size) <= 560
    files = {path.relative_to(run).as_posix() for path in (run / "pictures" / "worst").iterdir()}
    assert files == {row[key] for row in worst["images"] for key in ("truth", "prediction")}
    page = (run / "report.html").read_text()
    assert page.count('<li class="card"') == len(expected)
    assert "<h2>Class balance</h2>" in page
    assert "<h2>Missing</h2>" not in page
