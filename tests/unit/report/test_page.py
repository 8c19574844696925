"""The page holds everything, needs nothing else, and survives a broken run."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlvision.report import write_report
from tlvision.types import InputError

VOID = {"meta", "img", "br", "line", "circle", "polyline"}
CONFIG = "model: {plugin: yolo, arch: yolov8n, weights: coco}\ndata:\n  train: {json: cells/train.json}\n"
METRICS = {
    "task": "detect",
    "protocol": {"hash": "abcdef123456", "library": "faster-coco-eval 1.8.0"},
    "bbox": {"AP": 0.61234, "AP50": 0.9, "APl": None},
    "per_class": {"RBC": {"AP": 0.7, "ground_truths": 9}, "<i>dust</i>": {"AP": None, "ground_truths": 0}},
    "absent_classes": ["<i>dust</i>"],
    "counts": {"images": 4},
}
LEDGER_ROWS = [
    {"parameter": "a", "shape": [10, 10], "group": "backbone.0", "role": "backbone", "lr": 0.1, "trainable_from": None},
    {"parameter": "b", "shape": [10, 20], "group": "backbone.1", "role": "backbone", "lr": 0.02, "trainable_from": 50},
    {"parameter": "c", "shape": [10, 30], "group": "head", "role": "head", "lr": 0.5, "trainable_from": 0},
    {"parameter": "d", "shape": [400], "group": "head", "role": "head", "lr": 0.25, "trainable_from": 0, "new": 1},
]


class Checker(HTMLParser):
    """Notes every tag that is closed wrongly, and every address that the page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and tag not in ("tr", "th", "td"):
            while self.open[-1] in ("tr", "th", "td"):
                self.open.pop()
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "a run & more"
    (folder / "pictures").mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG)
    contents = {"metrics": METRICS, "ledger": {"rows": LEDGER_ROWS, "groups": [], "extra": 1}}
    contents["classes"] = {"names": ["RBC", "<i>dust</i>"], "source_ids": [1, 2]}
    contents["environment"] = {"packages": {"torch": "2.15"}, "seed": 3}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    lines: list[dict[str, Any]] = []
    for step in range(30):
        losses = {"box": 2.0 / (step + 1), "cls": 1.0}
        lines.append({"kind": "step", "step": step, "epoch": step // 10, "lr": 1e-3, "losses": losses,
                      "loss": sum(losses.values()), "images_per_second": 9.0})  # fmt: skip
        if step % 10 == 9:
            metrics = {"bbox/AP": step / 40, "bbox/AP50": step / 35, "bbox/APs": None}
            lines.append({"kind": "evaluation", "step": step, "epoch": step // 10, "metrics": metrics})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(folder / "pictures" / "one.png")
    Image.fromarray(np.zeros((500, 1600, 3), np.uint8)).save(folder / "pictures" / "two.jpg")
    return folder


def page_of(run: Path) -> tuple[str, Checker]:
    path = write_report(run)
    assert path == run / "report.html"
    page = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert all(address.startswith("data:image/") for address in checker.loads)
    assert not {"script", "link", "iframe"} & set(checker.tags)
    assert not re.search(r"url\(|@import|https?://", page)
    return page, checker


def test_everything_of_a_whole_run_is_there(run: Path) -> None:
    page, checker = page_of(run)
    text = " ".join(checker.text)
    for expected in ("a run & more", "task detect", "model yolo yolov8n", "train cells/train.json", "0.6123", "RBC",
                     "torch", "abcdef123456", "Loss", "Learning rate", "one.png"):  # fmt: skip
        assert expected in text, expected
    assert page.count("<svg") == 4
    assert page.count("<circle") == 6  # two metrics, three evaluations; APs is not drawn
    assert "Missing" not in text


def test_text_from_files_is_escaped(run: Path) -> None:
    page, _ = page_of(run)
    assert "<i>dust</i>" not in page
    assert page.count("&lt;i&gt;dust&lt;/i&gt;") == 3  # headline, table, absent classes


def test_the_ledger_is_summed_up_by_group(run: Path) -> None:
    text = " ".join(" ".join(page_of(run)[1].text).split())
    assert "trained: 700 parameters (70.0 %)" in text
    assert "freed later: 200 parameters (20.0 %)" in text
    assert "frozen: 100 parameters (10.0 %)" in text
    assert "backbone.0 backbone 1 100 never -" in text
    assert "backbone.1 backbone 1 200 step 50 0.02" in text
    assert "head head 2 700 the start 0.25 to 0.5" in text


def test_pictures_are_embedded_and_bounded(run: Path) -> None:
    _, checker = page_of(run)
    sizes = []
    for address in checker.loads:
        content = base64.b64decode(address.partition("base64,")[2])
        with Image.open(io.BytesIO(content)) as image:
            sizes.append(image.size)
    assert sizes == [(80, 60), (1280, 400)]
    assert base64.b64decode(checker.loads[0].partition("base64,")[2]) == (run / "pictures/one.png").read_bytes()
    for number in range(30):
        (run / "pictures" / f"z{number:02}.png").write_bytes((run / "pictures/one.png").read_bytes())
    page, checker = page_of(run)
    assert len(checker.loads) == 24
    assert "8 more are in pictures/" in page


ODD = (
    '{"rows": 3, "bbox": [], "names": 1, "per_class": 1, "model": 1, "data": [1]}',
    '{"rows": [1, {}], "bbox": {"AP": "x"}, "names": [null], "per_class": {"a": 1}, "counts": 1, "protocol": 1}',
    '{"rows": [{"shape": ["a"], "trainable_from": "x"}], "bbox": {"AP": []}, "absent_classes": 1, "kind": "step"}',
    '{"kind": "evaluation", "metrics": {"bbox/AP": "x"}, "semantic": {"pixel_accuracy": null}}',
)
FILES = ("config.yaml", "environment.json", "classes.json", "metrics.json", "log.jsonl", "ledger.json")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_said(name: str, run: Path) -> None:
    (run / name).unlink()
    assert f"{name} is missing." in page_of(run)[0]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", ["{", "[1, 2", "\x00\xff", "[]", "3", "null", "{}", *ODD])
def test_a_broken_file_does_not_stop_the_report(name: str, content: str, run: Path) -> None:
    (run / name).write_text(content)
    page_of(run)


def test_an_empty_folder_has_a_report_that_says_so(tmp_path: Path) -> None:
    page, _ = page_of(tmp_path)
    assert "There are no final metrics" in page
    assert all(f"{name} is missing." in page for name in FILES)


def test_broken_lines_losses_and_pictures_are_counted_and_named(run: Path) -> None:
    with (run / "log.jsonl").open("a") as log:
        log.write('{"kind": "step", "step": 30, "loss": NaN}\n{"kind": "other"}\n{"kind": "st')
    (run / "pictures" / "broken.png").write_bytes(b"no picture")
    page, _ = page_of(run)
    assert "log.jsonl has 1 line(s) that are not JSON" in page
    assert "1 step(s) whose loss is not a finite number" in page
    assert "pictures/broken.png could not be read" in page


def test_boxes_and_masks_have_tiles_curves_and_a_table_row_each(run: Path) -> None:
    row = {"bbox/AP": 0.7, "segm/AP": 0.61, "ground_truths": 9}
    protocol = {"hash": {"bbox": "abcdef123456", "segm": "fedcba654321"}}
    masks = {"AP": 0.5123, "AP50": 0.8, "APl": 0.25}
    metrics = {**METRICS, "task": "instance", "segm": masks, "protocol": protocol, "per_class": {"RBC": row}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    for line in lines:
        if line["kind"] == "evaluation":
            line["metrics"] |= {"segm/AP": 0.1, "segm/AP50": 0.2}
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page, checker = page_of(run)
    assert "<b>0.6123</b><span>bbox AP</span>" in page
    assert "<b>0.5123</b><span>segm AP</span>" in page
    text = " ".join(" ".join(checker.text).split())
    for expected in ("Metrics (bbox)", "Metrics (segm)", "class bbox/AP segm/AP ground truths RBC 0.7000 0.6100 9",
                     "AP AP50 APl bbox 0.6123 0.9000 - segm 0.5123 0.8000 0.2500",
                     "protocol bbox abcdef123456, segm fedcba654321"):  # fmt: skip
        assert expected in text, expected
    assert page.count("<svg") == 5


def test_semantic_metrics_have_a_headline_of_their_own(run: Path) -> None:
    metrics = {"task": "semantic", "semantic": {"mean_class_iou": 0.4321, "pixel_accuracy": 0.9}, "per_class": {}}
    (run / "metrics.json").write_text(json.dumps(metrics))
    page, _ = page_of(run)
    assert "<b>0.4321</b><span>mean class iou</span>" in page


def test_no_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        write_report(tmp_path / "nowhere")
