"""The report of a run answers first, holds everything, needs nothing else, and survives a broken run."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from report_run import NAMES, analysis, log_lines, metrics, write_run
from tlvision.report import write_report
from tlvision.types import InputError

VOID = {"meta", "img", "br", "path", "use"}


class Checker(HTMLParser):
    """Notes every tag that is closed wrongly, every address that the page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "a run & more")


@pytest.fixture
def small_run(run: Path) -> Path:
    """Return a run with few charts, which take most of the time."""
    write_metrics(run, analysis={})
    (run / "log.jsonl").write_text('{"kind": "evaluation", "step": 1, "metrics": {"bbox/AP": 0.5}}\n')
    shutil.rmtree(run / "pictures" / "worst")
    return run


def page_of(run: Path) -> tuple[str, Checker]:
    path = write_report(run)
    assert path == run / "report.html"
    page = path.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.handlers == []
    assert all(address.startswith(("data:image/", "#")) for address in checker.loads)
    assert not {"link", "iframe", "object"} & set(checker.tags)
    assert checker.tags.count("script") == 1
    assert len(checker.ids) == len(set(checker.ids))
    assert {address[1:] for address in checker.loads if address.startswith("#")} <= set(checker.ids)
    assert not re.search(r"@import|https?://|url\((?!#)", page)
    return page, checker


def write_metrics(run: Path, **changes: Any) -> None:
    (run / "metrics.json").write_text(json.dumps({**metrics(), **changes}))


def test_the_answer_comes_first_in_one_sentence(run: Path) -> None:
    page, _ = page_of(run)
    answer = re.search(r'<p class="answer">(.*?)</p>', page)
    assert answer is not None
    begin = "Box AP is 0.612 on 4 images, 0.422 more than at the first evaluation (epoch 1); fix "
    assert re.fullmatch(re.escape(begin) + r"[a-z-]+ (errors|objects) first, which cost 0\.\d{3} AP50\.", answer[1])
    assert page.index('class="answer"') < page.index("<section")
    write_metrics(run, intervals={"bbox/AP": [0.58, 0.64]})
    assert "Box AP is 0.612 (95 % interval 0.580 to 0.640) on 4 images" in page_of(run)[0]


def test_everything_of_a_whole_run_is_there(run: Path) -> None:
    page, checker = page_of(run)
    for expected in ("a run & more", "task detect", "model yolo yolov8n", "training data cells/train.json", "0.6123",
                     "RBC", "torch", "abcdef123456", "commit abc1234",
                     "val: 4 images cells/val.json · sha256 0123456789ab",
                     "began with weights/coco.pt · sha256 fedcba987654", "one.png", "Pseudo-labels: labels",
                     "step 59: no pseudo-label passed the threshold", "phase steps trained parameters",
                     "training objects validation objects RBC 90 9", "1 missed", "costs 0.1000 AP50"):  # fmt: skip
        assert expected in checker.text, expected
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == ["Worst images", "Classes", "Errors", "Operating point", "Calibration", "Training",
                      "Class balance", "Examples", "Phases and ledger", "All numbers", "Provenance"]  # fmt: skip
    charts = re.findall(r"<figcaption>([^<]*)</figcaption><svg", page)
    assert charts == ["Confusion at the operating point", "Precision and recall; dots: operating point",
                      "F1 by threshold", "", "Loss", "Parts of the loss", "Metrics (bbox)", "Pseudo-labels: labels",
                      "Pseudo-labels: share", "Learning rate"]  # fmt: skip


def test_names_from_files_are_escaped(run: Path) -> None:
    page, checker = page_of(run)
    assert NAMES[1] not in page
    assert checker.text.count(NAMES[1]) > 6
    assert "<b>.jpg" not in page
    data = re.search(r"data-classes='([^']*script[^']*)'", page)
    assert data is not None
    assert json.loads(data[1]) == [NAMES[1]]


def test_the_ledger_is_summed_up_by_phase_and_group(run: Path) -> None:
    text = page_of(run)[1].text
    assert "trained: 700 parameters (70.0 %)" in text
    assert "freed later: 200 parameters (20.0 %)" in text
    assert "frozen: 100 parameters (10.0 %)" in text
    assert "1 0 to 50 700 300 2 1 2 50 to 60 900 100 3 1" in text
    assert "backbone.0 backbone 1 100 never -" in text
    assert "backbone.1 backbone 1 200 step 50 0.02" in text
    assert "head head 2 700 the start 0.25 to 0.5" in text


@pytest.mark.slow
def test_the_page_of_500_images_stays_below_5_mb(tmp_path: Path) -> None:
    """Noise is the worst case for JPEG, and a run draws at most 24 pairs, whatever the number of images."""
    run = write_run(tmp_path / "run", worst=24, side=1000)
    rng = np.random.default_rng(0)
    for number in range(20):
        Image.fromarray(rng.integers(0, 255, (900, 1200, 3), np.uint8)).save(run / "pictures" / f"{number}.jpg")
    page, checker = page_of(run)
    assert len(page.encode()) < 5_000_000
    pictures = [address for address in checker.loads if address.startswith("data:")]
    assert len(pictures) == 48 + 8
    for address in pictures:
        content = base64.b64decode(address.partition("base64,")[2])
        assert len(content) <= 48_000
        with Image.open(io.BytesIO(content)) as image:
            assert max(image.size) <= 640
    assert "14 more are in pictures/" in page


ODD = (
    '{"rows": 3, "bbox": [], "names": 1, "per_class": 1, "model": 1, "data": [1], "worst": {"images": 3}}',
    '{"rows": [1, {}], "bbox": {"AP": "x"}, "names": [null], "per_class": {"a": 1}, "counts": 1, "protocol": 1}',
    '{"rows": [{"shape": ["a"], "trainable_from": "x"}], "bbox": {"AP": []}, "absent_classes": 1, "kind": "step"}',
    '{"kind": "evaluation", "metrics": {"bbox/AP": "x"}, "semantic": {"pixel_accuracy": null}}',
    '{"analysis": {"bbox": {"operating_point": {"per_class": {"a": 1}}}}, "bbox": {"AP": 0.5}, "intervals": 3}',
    '{"worst": {"images": [{"image": 3}]}, "class_balance": {"train": 1}, "data": {"val": 3}, "weights": 3}',
)
FILES = ("config.yaml", "environment.json", "classes.json", "metrics.json", "log.jsonl", "ledger.json")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, small_run: Path) -> None:
    (small_run / name).unlink()
    assert f"{name} is missing." in page_of(small_run)[0]


@pytest.mark.parametrize("name", [*FILES, "report.json"])
@pytest.mark.parametrize("content", ["{", "[1, 2", "\x00\xff", "[]", "3", "null", "{}", *ODD])
def test_a_broken_file_does_not_stop_the_report(name: str, content: str, small_run: Path) -> None:
    (small_run / name).write_text(content)
    page_of(small_run)


def test_a_broken_section_costs_no_other(run: Path) -> None:
    write_metrics(run, analysis={"bbox": {**metrics()["analysis"]["bbox"], "error_kinds": 3}})
    page, checker = page_of(run)
    assert "Errors: left out, the run&#39;s files do not have the usual content (TypeError)." in page
    assert "Precision and recall" in checker.text


def test_an_empty_folder_has_a_report_that_names_what_is_missing(tmp_path: Path) -> None:
    page, _ = page_of(tmp_path)
    assert "There are no final metrics" in page
    assert all(f"{name} is missing." in page for name in FILES)


def test_a_run_of_an_earlier_version_has_a_report(run: Path) -> None:
    (run / "report.json").unlink()
    shutil.rmtree(run / "pictures")
    write_metrics(run, analysis={})
    page, checker = page_of(run)
    assert "metrics.json has no analysis" in page
    assert "0.6123" in checker.text
    assert "Worst images" not in checker.text


def test_broken_lines_losses_and_pictures_are_counted_and_named(run: Path) -> None:
    with (run / "log.jsonl").open("a") as log:
        log.write('{"kind": "step", "step": 30, "loss": NaN}\n{"kind": "other"}\n{"kind": "st')
    (run / "pictures" / "broken.png").write_bytes(b"no picture")
    (run / "pictures" / "worst" / "00_truth.jpg").unlink()
    page, _ = page_of(run)
    assert "log.jsonl has 1 line(s) that are not JSON" in page
    assert "1 step(s) whose loss is not a finite number" in page
    assert "pictures/broken.png could not be read" in page
    assert "pictures/worst/00_truth.jpg could not be read" in page


def test_boxes_and_masks_have_numbers_curves_and_errors_each(run: Path) -> None:
    row = {"bbox/AP": 0.7, "segm/AP": 0.61, "ground_truths": 9}
    protocol = {"hash": {"bbox": "abcdef123456", "segm": "fedcba654321"}}
    both = {"segm": analysis(1), "bbox": metrics()["analysis"]["bbox"]}
    masks = {"AP": 0.5123, "AP50": 0.8, "APl": 0.25}
    write_metrics(run, task="instance", segm=masks, protocol=protocol, per_class={"RBC": row}, analysis=both)
    content = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps({**content, "worst": {**content["worst"], "kind": "segm"}}))
    lines = log_lines()
    for line in lines:
        if line["kind"] == "evaluation":
            line["metrics"] |= {"segm/AP": 0.1, "segm/AP50": 0.2}
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page, checker = page_of(run)
    for expected in ("Mask AP is 0.512 on 4 images", "0.6123 bbox AP", "0.5123 segm AP", "Metrics (bbox)",
                     "Metrics (segm)", "class bbox/AP segm/AP ground truths RBC 0.7000 0.6100 9",
                     "AP 0.6123 0.5123", "hash bbox abcdef123456, segm fedcba654321",
                     "Kinds of errors (masks)", "Kinds of errors (boxes)"):  # fmt: skip
        assert expected in checker.text, expected
    assert page.count("Confusion (masks) at the operating point") == 1


def test_label_maps_name_the_class_to_fix_first(run: Path) -> None:
    cells = [{"truth": a, "predicted": b, "count": n} for a, b, n in (("road", "road", 90), ("sign", "road", 8))]
    found = {
        "confusion": cells,
        "per_class": {name: {"precision": 0.5, "recall": 0.25} for name in ("road", "sign")},
        "border": {"distance": 0.02, "near": {"pixels": 10, "error": 0.5}, "inside": {"pixels": 90, "error": 0.1}},
        "images": {"mean": 0.4, "quantiles": {"0": 0.1, "0.5": 0.4}, "worst": []},
    }
    values = {"task": "semantic", "semantic": {"mean_class_iou": 0.4321, "pixel_accuracy": 0.9}}
    per_class = {"road": {"iou": 0.9, "ground_truths": 90}, "sign": {"iou": 0.125, "ground_truths": 8}}
    content = {**values, "per_class": per_class, "counts": {"images": 3}, "analysis": {"semantic": found}}
    (run / "metrics.json").write_text(json.dumps(content))
    _, checker = page_of(run)
    for expected in ("Mean class IoU is 0.432 on 3 images; fix class sign first, whose IoU is 0.125.",
                     "100 % of its pixels are predicted as road.", "0.4321 mean class IoU",
                     "near another class 0.5000 10", "Confusion in pixels", "sign 0.1250 0.5000 0.2500 8"):  # fmt: skip
        assert expected in checker.text, expected


def test_the_lineage_follows_weights_into_the_run_that_made_them(run: Path, tmp_path: Path) -> None:
    child = write_run(tmp_path / "child")
    weights = {"source": str(run / "checkpoints" / "best" / "model.safetensors"), "sha256": "aa"}
    (child / "environment.json").write_text(json.dumps({"weights": weights}))
    text = page_of(child)[1].text
    assert "child began with" in text
    assert "a run & more began with weights/coco.pt" in text


def test_no_folder_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        write_report(tmp_path / "nowhere")
