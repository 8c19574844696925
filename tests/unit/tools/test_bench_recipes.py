"""The recipes benchmark: subsets of the suite, the choice on made-up numbers, and a run with a side that trains not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def suite(tools: Any) -> Any:
    return tools("benchmarks.recipe_suite")


@pytest.fixture
def choice(tools: Any) -> Any:
    return tools("benchmarks.recipe_choice")


def document(count: int, rare: dict[int, int] | None = None) -> dict[str, Any]:
    """A COCO json of `count` images with class 1 in each; rare: class -> the one image that has it."""
    rows = [(image, 1) for image in range(1, count + 1)] + [(image, c) for c, image in (rare or {}).items()]
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 99, "height": 99} for i in range(1, count + 1)],
        "categories": [{"id": c, "name": f"class {c}"} for c in sorted({c for _, c in rows})],
        "annotations": [
            {"id": i, "image_id": image, "category_id": c, "bbox": [9, 9, 40, 40], "area": 1600, "iscrowd": 0}
            for i, (image, c) in enumerate(rows, 1)
        ],
    }


def ids(rows: list[dict[str, Any]]) -> set[int]:
    return {row["id"] for row in rows}


@pytest.mark.parametrize(("total", "size", "fit", "held"), [(60, 25, 25, 20), (200, 100, 100, 25), (200, 0, 150, 50)])
def test_split_has_the_sizes_and_shares_no_image(suite: Any, total: int, size: int, fit: int, held: int) -> None:
    parts = suite.split_train(document(total), size)
    assert [len(part) for part in parts] == [fit, held]
    assert [len(ids(part)) for part in parts] == [fit, held]
    assert not ids(parts[0]) & ids(parts[1])


def test_split_is_seeded_and_independent_of_the_order_in_the_file(suite: Any) -> None:
    whole = document(80)
    turned = {**whole, "images": whole["images"][::-1]}
    first, again, other = (suite.split_train(d, 25, seed) for d, seed in ((whole, 0), (turned, 0), (whole, 1)))
    assert first == again
    assert ids(first[0]) != ids(other[0])


def test_split_trains_on_every_class_that_occurs(suite: Any) -> None:
    rare = {c: 3 * c for c in range(2, 22)}
    for seed in range(5):
        fit, _ = suite.split_train(document(80, rare), 25, seed)
        assert ids(fit) >= set(rare.values())


def test_split_refuses_too_few_images(suite: Any) -> None:
    with pytest.raises(ValueError, match="44 images are too few for 25 to train on and 20 held out"):
        suite.split_train(document(44), 25)
    with pytest.raises(ValueError, match="20 images are too few for all"):
        suite.split_train(document(20), 0)


def test_every_class_of_val_that_train_has_is_trained_on_in_the_real_suite(
    suite: Any, shared: Path, tmp_path: Path
) -> None:
    root = shared / "data"
    made = [suite.make_cell(data, size, root, tmp_path) for data in suite.SUITE for size in suite.SIZES]
    cells = [cell for cell in made if cell is not None]
    assert len(cells) == 22, "kitti has no 100 images"
    for cell in cells:
        train = json.loads((root / cell.data.folder / cell.data.train).read_text())
        val, fit = (json.loads(path.read_text()) for path in (cell.val, cell.folder / "fit.json"))
        in_val, in_train, in_fit = ({row["category_id"] for row in d["annotations"]} for d in (val, train, fit))
        # 25 images of COCO cannot have all of its 71 classes.
        assert len((in_val & in_train) - in_fit) <= (8 if cell.name == "coco128-25" else 0), cell.name


def test_predictions_for_both_are_split_by_where_the_image_is_from(suite: Any) -> None:
    held, val = document(3), document(2)
    joined = suite.join(held, val)
    assert len(ids(joined["images"])) == 5
    rows = [{"image_id": image["id"], "score": 0.5} for image in joined["images"]]
    parts = suite.split_predictions(rows)
    assert [[row["image_id"] for row in part] for part in parts] == [[1, 2, 3], [1, 2]]


def test_epochs_keep_to_both_bounds(suite: Any) -> None:
    budget = suite.Budget(image_size=320, max_steps=300, max_epochs=60)
    assert [budget.epochs(images) for images in (25, 100, 200, 10_000)] == [60, 42, 23, 1]


SCORES = {
    # b is best on the held-out images of x and y, a by far on z: chosen for z without looking at z, b.
    "a": {"x": [0.20, 0.20], "y": [0.30, 0.32], "z": [0.90, 0.90]},
    "b": {"x": [0.40, 0.40], "y": [0.50, 0.52], "z": [0.10, 0.10]},
    "c": {"x": [0.39, 0.43], "y": [0.10, 0.10], "z": [0.80, 0.80]},
}
SOURCES = {"x": "x", "y": "y", "z": "z"}


def test_choice_without_a_source_does_not_look_at_it(choice: Any) -> None:
    chosen = {found.left_out: found.recipe for found in choice.leave_one_out(SCORES, SOURCES)}
    # x: a (0.60 + 1) / 2, b (1 + 0.11) / 2; y: c (1 + 0.89) / 2; z: b 1.0 with c first on x and b second.
    assert chosen == {"x": "a", "y": "c", "z": "b"}
    spoiled = {name: {**cells, "z": [0.0 if name == "b" else 1.0]} for name, cells in SCORES.items()}
    assert choice.leave_one_out(spoiled, SOURCES)[2].recipe == "b"


def test_choice_counts_a_source_once_however_many_cells_it_has(choice: Any) -> None:
    scores = {"a": {"x1": [1], "x2": [1], "x3": [1], "y": [0.2], "z": [1]}}
    scores |= {"b": {"x1": [0.9], "x2": [0.9], "x3": [0.9], "y": [1], "z": [1]}}
    sources = {"x1": "x", "x2": "x", "x3": "x", "y": "y", "z": "z"}
    assert choice.leave_one_out(scores, sources)[-1].recipe == "b"


def test_choice_by_rank_counts_no_distance(choice: Any) -> None:
    scores = {"a": {"w": [0.51], "x": [0.51], "y": [0.0], "z": [1]}, "b": {"w": [0.5], "x": [0.5], "y": [1], "z": [1]}}
    sources = {name: name for name in "wxyz"}
    assert choice.leave_one_out(scores, sources, "rank")[-1].recipe == "a"
    assert choice.leave_one_out(scores, sources, "relative")[-1].recipe == "b"


def test_choice_names_what_is_not_run(choice: Any) -> None:
    with pytest.raises(ValueError, match="'b' has no result for y, z; run it first"):
        choice.leave_one_out({"a": SCORES["a"], "b": {"x": [0.5]}}, SOURCES)
    with pytest.raises(ValueError, match="at least two sources"):
        choice.leave_one_out({"a": {"x": [1]}}, {"x": "x"})


# Predicts the share of objects that it is given, writes down that it ran, and fails if the share is negative.
FAKE_SIDE = """
import json, sys
from pathlib import Path
folder, log, share = Path(sys.argv[1]), sys.argv[3], float(sys.argv[4])
truth = json.loads(Path(sys.argv[2]).read_text())
with open(log, "a") as file:
    print(folder.name, file=file)
if share < 0:
    sys.exit("diverged")
(folder / "checkpoints").mkdir(parents=True)
found = []
for part in (range(0, 10_000_000), range(10_000_000, 20_000_000)):
    rows = [row for row in truth["annotations"] if row["image_id"] in part]
    found += rows[: round(share * len(rows))]
found = [{k: row[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9} for row in found]
(folder / "predictions.json").write_text(json.dumps(found))
"""


class Bench:
    """The benchmark with the fake side, on two data sets."""

    def __init__(self, recipes: Any, suite: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.recipes, self.folder, self.monkeypatch = recipes, folder, monkeypatch
        self.shares = {"base": {"x": 0.2, "y": 0.9}, "lr3e-4": {"x": 0.7, "y": 0.4}, "upstream": {"x": 0.6, "y": 0.5}}
        for name in ("x", "y"):
            (folder / name).mkdir()
            for part in ("train", "val"):
                (folder / name / f"{part}.json").write_text(json.dumps(document(50)))
        monkeypatch.setattr(recipes, "SUITE", tuple(suite.DataSet(name, name, name) for name in ("x", "y")))
        monkeypatch.setattr(recipes, "command_for", self.command)

    def command(self, options: Any, cell: Any, recipe: str, seed: int, folder: Path) -> list[str]:
        share = self.shares[recipe][cell.data.name] - 0.1 * seed
        return [sys.executable, "-c", FAKE_SIDE, *map(str, (folder, cell.folder / "both.json", self.log, share))]

    @property
    def log(self) -> Path:
        return self.folder / "ran.txt"

    @property
    def results(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "out" / "results.json").read_text()))

    def run(self, action: str, *more: str) -> list[str]:
        self.log.write_text("")
        fixed = ["--data", str(self.folder), "--weights", "w", "--out", str(self.folder / "out")]
        sets = ["--sets", "x", "y", "--sizes", "25", "--seeds", "0", "1"]
        self.monkeypatch.setattr(sys, "argv", ["recipes", action, *fixed, *sets, *more])
        self.recipes.main()
        return sorted(self.log.read_text().split())


@pytest.fixture
def bench(tools: Any, suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tools("benchmarks.recipes"), suite, tmp_path, monkeypatch)


def test_runs_are_done_once_and_scored_on_held_out_images_only(bench: Bench) -> None:
    assert len(bench.run("run")) == 12
    rows = bench.results
    assert len(rows) == 12
    assert rows["x-25 | lr3e-4 | 0"]["ap"] > rows["x-25 | base | 0"]["ap"] > 0
    assert not any("val_ap" in row for row in rows.values())
    assert not list((bench.folder / "out" / "runs").glob("*/checkpoints"))
    assert bench.run("run") == []


def test_choice_is_scored_on_val_of_the_source_left_out(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.run("run")
    capsys.readouterr()
    assert bench.run("choose", "--recipes", "base", "lr3e-4") == []
    cells = {line.split("|")[1].strip(): line.split("|")[2:] for line in capsys.readouterr().out.splitlines()[2:4]}
    assert {name: row[0].strip() for name, row in cells.items()} == {"x-25": "base", "y-25": "lr3e-4"}
    assert cells["x-25"][1] == cells["x-25"][2] != cells["x-25"][3]
    scored = {key for key, row in bench.results.items() if "val_ap" in row}
    assert not any(key.startswith("x-25 | lr3e-4") for key in scored), "val of what was not chosen stays unseen"


@pytest.mark.slow
def test_a_rule_is_a_candidate_that_names_a_recipe_in_each_cell(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.monkeypatch.setattr(bench.recipes, "FULL_RUNS", {"1e-3": "base", "3e-4": "lr3e-4"})
    bench.shares |= {"probe0.1 1e-3": {"x": 0.2, "y": 0.5}, "probe0.1 3e-4": {"x": 0.3, "y": 0.4}}
    bench.run("run", "--recipes", *bench.shares)
    capsys.readouterr()
    bench.run("choose", "--recipes", "base", "lr3e-4", "--rules", "by probe0.1")
    assert "by probe0.1 1.000" in capsys.readouterr().out, "the better recipe in every cell"
    bench.run("probe", "--rates", "1e-3", "3e-4")
    out = capsys.readouterr().out
    assert "| 3e-4 |" in out.splitlines()[2]
    assert out.strip().endswith("Mean share of the best rate's AP: probe 0.1: 1.000")


def test_a_failure_is_recorded_counts_as_nothing_and_is_done_again(bench: Bench) -> None:
    bench.shares["base"]["y"] = -1
    with pytest.raises(SystemExit, match=r"these runs failed; .*: y-25 \| base \| 0, y-25 \| base \| 1$"):
        bench.run("run")
    assert "diverged" in bench.results["y-25 | base | 0"]["failed"]
    bench.shares["base"]["y"] = 0.9
    assert bench.run("run") == ["y-25-base-0", "y-25-base-1"]


@pytest.mark.slow
def test_results_of_another_budget_are_not_taken_for_these(bench: Bench) -> None:
    bench.run("run")
    with pytest.raises(SystemExit, match="give another --out"):
        bench.run("run", "--budget", "quick")


def test_recipes_are_configs_that_load(bench: Bench, repository: Path) -> None:
    from tlvision.config.load import load_config

    for name, recipe in bench.recipes.RECIPES.items():
        hooks = f"hooks={json.dumps(list(recipe.hooks))}"
        config = load_config(repository / "configs/detect/yolo_finetune.yaml", [*recipe.settings, hooks])
        assert config.train.epochs == 30, name


def test_a_run_that_cannot_be_scored_stops_no_other(tools: Any, tmp_path: Path) -> None:
    runs = tools("benchmarks.runs")

    def run(key: str, code: str) -> Any:
        return runs.Run(key, (sys.executable, "-c", code), tmp_path / key)

    def score(each: Any) -> dict[str, Any]:
        return json.loads((each.folder / "predictions.json").read_text())

    leaves = "import pathlib; p = pathlib.Path({!r}); p.mkdir(); (p / 'predictions.json').write_text('{}')"
    work = [
        run("nothing", "pass"),
        run("broken", leaves.format(str(tmp_path / "broken"), "{")),
        run("good", leaves.format(str(tmp_path / "good"), json.dumps({"ap": 0.5}))),
    ]
    results = runs.Results(tmp_path / "results.json")
    runs.run_all(work, results, 1, score, record_failures=True)
    assert results.rows["good"]["ap"] == 0.5
    for key in ("nothing", "broken"):
        assert results.rows[key]["failed"].startswith("cannot be scored: ")
