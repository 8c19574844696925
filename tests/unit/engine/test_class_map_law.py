"""Class names alone decide: other ids change no result, and changes of classes equal a json that was rewritten."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import tlvision
from fast import first_fast
from tlvision.cli.main import main
from tlvision.types import InputError

Content = dict[str, Any]
SEEDS = (0, 1, 2, 3, 4, 5)


def with_ids(content: Content, ids: dict[int, int]) -> Content:
    """Return a COCO json whose category ids are replaced."""
    rows = [row | {"category_id": ids[row["category_id"]]} for row in content["annotations"]]
    categories = [row | {"id": ids[row["id"]]} for row in content["categories"]]
    random.Random(len(rows)).shuffle(categories)
    return content | {"annotations": rows, "categories": categories}


def drawn_ids(seed: int, ids: list[int]) -> dict[int, int]:
    """Return new ids: contiguous from 0, permuted, or with wide gaps, by the seed."""
    rng = random.Random(seed)
    pool = list(range(len(ids))) if seed % 2 == 0 else rng.sample(range(1_000_000), len(ids))
    rng.shuffle(pool)
    return dict(zip(ids, pool, strict=True))


def reading(path: Path) -> Content:
    content: Content = json.loads(path.read_text())
    return content


@pytest.fixture
def with_split(tiny_dataset: Path, tmp_path: Path, tiny_config: Content) -> Callable[..., Content]:
    """Return a config of one epoch on jsons that are given, with the images of `tiny_dataset`."""

    def make(name: str, train: Content, val: Content, classes: Any = None) -> Content:
        folder = tmp_path / name
        folder.mkdir()
        for part, content in (("train", train), ("val", val)):
            (folder / f"{part}.json").write_text(json.dumps(content))
            tiny_config["data"][part] = {
                "json": str(folder / f"{part}.json"),
                "images": str(tiny_dataset / "images"),
            }
        tiny_config["data"]["classes"] = classes
        tiny_config["train"]["epochs"] = 1
        tiny_config["run"]["out"] = str(folder / "run")
        return json.loads(json.dumps(tiny_config))

    return make


def outcome(config: Content) -> tuple[dict[str, Any], dict[str, Any], list[Content]]:
    """Train; return the metrics, the weights and the predictions."""
    tlvision.train(config)
    run = Path(config["run"]["out"])
    metrics = reading(run / "metrics.json")
    weights = load_file(run / "checkpoints" / "last" / "model.safetensors")
    predictions: list[Content] = json.loads((run / "predictions.json").read_text())
    return metrics["bbox"], weights, predictions


def assert_same_weights(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("seed", first_fast(SEEDS))
def test_other_ids_in_either_file_change_no_weight_and_no_metric(
    seed: int, tiny_dataset: Path, with_split: Callable[..., Content]
) -> None:
    train, val = reading(tiny_dataset / "train.json"), reading(tiny_dataset / "val.json")
    names = ["light", "dark"]
    metrics, weights, predictions = outcome(with_split("as-is", train, val, names))
    ids, val_ids = drawn_ids(seed, [3, 90]), drawn_ids(seed + 1, [3, 90])
    other = outcome(with_split("other", with_ids(train, ids), with_ids(val, val_ids), names))
    assert other[0] == metrics
    assert metrics["AP"] is not None
    assert_same_weights(weights, other[1])
    assert predictions
    renumbered = [row | {"category_id": val_ids[row["category_id"]]} for row in predictions]
    assert other[2] == renumbered, "predictions are in the ids of the json that they are for"


def test_a_class_that_one_file_lacks_shifts_no_other(
    tiny_dataset: Path, tmp_path: Path, with_split: Callable[..., Content]
) -> None:
    train, val = reading(tiny_dataset / "train.json"), reading(tiny_dataset / "val.json")
    lean = val | {
        "categories": [row for row in val["categories"] if row["name"] == "light"],
        "annotations": [row for row in val["annotations"] if row["category_id"] == 90],
    }
    _, weights, predictions = outcome(with_split("both", train, val))
    fewer, same, found = outcome(with_split("lean", train, lean))
    assert_same_weights(weights, same)
    light = reading(tmp_path / "both" / "run" / "metrics.json")["per_class"]["light"]["AP"]
    assert light == fewer["AP"], "the only class left has its own AP, and it is the mean"
    assert found == [row for row in predictions if row["category_id"] == 90]


@pytest.mark.parametrize(
    ("changes", "names"),
    first_fast(
        [
            ({"rename": {"dark": "green", "light": "red"}}, {3: "green", 90: "red"}),
            ({"merge": {"box": ["light", "dark"]}}, {3: "box", 90: "box"}),
            ({"drop": ["dark"]}, {90: "light"}),
            ({"rename": {"dark": "green"}, "only": ["green"]}, {3: "green"}),
        ]
    ),
    ids=["rename", "merge", "drop", "only"],
)
def test_changes_of_classes_equal_a_json_that_was_rewritten(
    changes: Content, names: dict[int, str], tiny_dataset: Path, with_split: Callable[..., Content]
) -> None:
    train, val = reading(tiny_dataset / "train.json"), reading(tiny_dataset / "val.json")
    first = 90 if "merge" in changes else None  # `light` is listed first
    new_ids = {old: first or old for old in names}

    def rewritten(content: Content) -> Content:
        rows = [row for row in content["annotations"] if row["category_id"] in names]
        categories = {new_ids[old]: name for old, name in names.items()}
        return content | {
            "annotations": [row | {"category_id": new_ids[row["category_id"]]} for row in rows],
            "categories": [{"id": number, "name": name} for number, name in categories.items()],
        }

    by_hand = outcome(with_split("by-hand", rewritten(train), rewritten(val)))
    changed = outcome(with_split("changed", train, val, changes))
    assert changed[0] == by_hand[0]
    assert_same_weights(changed[1], by_hand[1])
    assert changed[2] == by_hand[2]
    assert {row["category_id"] for row in changed[2]} <= set(new_ids.values())


def test_evaluate_takes_the_files_as_they_are(
    tiny_dataset: Path, with_split: Callable[..., Content], capsys: pytest.CaptureFixture[str]
) -> None:
    train, val = reading(tiny_dataset / "train.json"), reading(tiny_dataset / "val.json")
    config = with_split("merged", train, val, {"merge": {"box": ["dark", "light"]}})
    metrics, _, _ = outcome(config)
    run, images = config["run"]["out"], str(tiny_dataset / "images")
    swapped = with_ids(val, {3: 7, 90: 0})
    path = Path(run).parent / "swapped.json"
    path.write_text(json.dumps(swapped))
    out = Path(run) / "evaluations" / "swapped"
    code = main(["evaluate", "--run", run, "--json", str(path), "--images", images])
    assert code == 0, capsys.readouterr()
    assert reading(out / "metrics.json")["bbox"]["AP"] == metrics["AP"]
    assert {row["category_id"] for row in json.loads((out / "predictions.json").read_text())} == {7}


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({"rename": {"drak": "green"}}, r"train.json has no class 'drak'. Did you mean 'dark'"),
        ({"rename": {"dark": "light"}}, r"train.json has a class 'light' already. To join them, list it in merge"),
        ({"merge": {"light": ["dark"]}}, r"train.json has a class 'light' already"),
        ({"drop": ["drak"]}, r"has no class 'drak'"),
        ({"only": ["drak"]}, r"has no class 'drak'"),
        ({"names": ["dark", "light"], "drop": ["dark"]}, r"data.classes.names: names are for label maps"),
        ({"drop": ["dark", "light"]}, r"no usable annotation is left"),
    ],
    ids=["unknown", "taken", "merged into a class", "drop unknown", "only unknown", "names", "all dropped"],
)
def test_what_does_not_fit_is_named(
    classes: Content, words: str, tiny_dataset: Path, with_split: Callable[..., Content]
) -> None:
    train, val = reading(tiny_dataset / "train.json"), reading(tiny_dataset / "val.json")
    with pytest.raises(InputError, match=words):
        tlvision.train(with_split("wrong", train, val, classes))
