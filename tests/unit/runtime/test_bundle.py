"""A bundle is read as it was written, and what is wrong with one is a sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import tlvision.runtime
from tlvision.data.settings import TileSettings
from tlvision.evaluation.score_map import ScoreMap
from tlvision.plugin.export import Candidates, Deltas, DenseScores, Pooling, Proposals, TwoStage
from tlvision.runtime.bundle import Bundle, read_bundle, write_bundle
from tlvision.types import ClassMap, ClassThresholds, InputError, InputSpec

POOLING = Pooling(strides=(4, 8), size=7, finest=56.0, sampling_ratio=0, aligned=True)
DECODERS = [
    Candidates(score_floor=0.001, nms_iou=None, most=300, masks=True, clip="before"),
    DenseScores(score_kind="sigmoid", align_corners=True),
    TwoStage(
        proposals=Proposals(
            anchors=(((-1.0, -2.0, 1.0, 2.0),),),
            strides=(4,),
            deltas=Deltas(most_log=4.1),
            pre_nms=100,
            most=50,
            nms_iou=0.7,
            min_size=0.0,
        ),
        pooling=POOLING,
        deltas=Deltas(std=(0.1, 0.1, 0.2, 0.2), most_log=4.1, both=True),
        score_floor=0.05,
        nms_iou=0.5,
        most=100,
        mask_pooling=replace(POOLING, size=14),
        paste="whole pixels",
    ),
]


def bundle_of(decoder: Candidates | DenseScores | TwoStage = DECODERS[0]) -> Bundle:
    return Bundle(
        task="detect",
        name="parts",
        classes=ClassMap(("scratch", "dent"), (7, 0)),
        input_spec=InputSpec(mean=(0.1, 0.2, 0.3), pad_value=(1, 2, 3), place="corner", margin=16),
        image_size=320,
        decoder=decoder,
        graphs={"model": "model.onnx"},
        graph_format="onnx",
        thresholds=ClassThresholds(0.25, {"dent": 0.5}),
        score_map=ScoreMap(points=((0.2, 0.1), (0.6, 0.5))),
        fixed=(320, 320),
        window=64,
        tiles=TileSettings(size=256, merge="wbf"),
        most=50,
        bits=12,
        licence="Apache-2.0",
        provenance={"run": "parts"},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    write_bundle(tmp_path, bundle_of())
    return tmp_path


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda each: each.kind)
def test_what_was_written_is_read(decoder: Candidates | DenseScores | TwoStage, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    write_bundle(tmp_path, bundle_of(decoder))
    assert read_bundle(tmp_path) == bundle_of(decoder)
    plain = replace(bundle_of(decoder), score_map=None, fixed=None, tiles=None, bits=None)
    write_bundle(tmp_path, plain)
    assert read_bundle(tmp_path) == plain


def test_a_changed_or_missing_file_is_named(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no graph!")
    with pytest.raises(InputError, match=r"model\.onnx' has changed since it was exported"):
        tlvision.runtime.load(folder)
    (folder / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"model\.onnx' is missing. Restore it"):
        tlvision.runtime.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", 2, "has format 2, and this tlvision reads 1"),
        ("decoder", {"kind": "other"}, "is damaged"),
        ("decoder", {"kind": "candidates"}, "is damaged"),
        ("input", {}, "is damaged"),
        ("classes", {"names": ["a", "a"], "source_ids": [1, 2]}, "is damaged"),
        ("thresholds", {"default": 2, "per_class": {}}, "is damaged"),
        ("files", {}, r"does not list model\.onnx"),
        ("files", {"model.onnx": "0", "../other": "0"}, "lies outside"),
        ("graph_format", "tar", "format 'tar'"),
    ],
)
def test_a_damaged_description_is_a_sentence(folder: Path, key: str, value: object, words: str) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    if key == "files" and isinstance(value, dict) and value:
        value = {"../other": "0"} | content["files"]
    (folder / "bundle.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(InputError, match=words):
        tlvision.runtime.load(folder)


def test_what_is_no_bundle_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        tlvision.runtime.load(tmp_path / "absent")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match=r"holds no bundle\.json"):
        tlvision.runtime.load(tmp_path / "other")
    with pytest.raises(InputError, match="onnxruntime cannot read"):
        tlvision.runtime.load(folder)
    with pytest.raises(InputError, match="threads"):
        tlvision.runtime.load(folder, threads=0)


def test_importing_the_runtime_imports_neither_torch_nor_the_rest_of_training() -> None:
    code = (
        "import sys, tlvision.runtime; tlvision.runtime.load; "
        "print([name for name in ('torch', 'pydantic', 'matplotlib', 'onnxruntime', 'yaml') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
