"""From file to objects the runtime does what a run does, with the graphs still in torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tlvision
from tlvision.data.images import read_any_image
from tlvision.data.settings import TileSettings
from tlvision.engine.model import LoadedModel
from tlvision.export import compare
from tlvision.export.torch_session import torch_sessions
from tlvision.formats.coco import read_unlabelled
from tlvision.plugin import Exportable
from tlvision.runtime.bundle import Bundle
from tlvision.runtime.model import RuntimeModel
from tlvision.types import InputError, Prediction, RunError


@pytest.fixture(scope="module")
def model(small_run: Path) -> LoadedModel:
    return tlvision.load(small_run).model


def runtime_of(model: LoadedModel) -> RuntimeModel:
    assert isinstance(model.adapter, Exportable)
    graphs = model.adapter.export_graphs(torch.zeros(2, 3, 96, 96))
    bundle = Bundle(
        task=model.task.name,
        name=model.name,
        classes=model.classes,
        input_spec=model.adapter.input_spec,
        image_size=model.config.data.image_size,
        decoder=graphs.decoder,
        graphs={},
        graph_format="torch",
        thresholds=model.thresholds,
        score_map=model.score_map,
    )
    return RuntimeModel(Path(), bundle, torch_sessions(graphs))


@pytest.fixture(scope="module")
def runtime(model: LoadedModel) -> RuntimeModel:
    return runtime_of(model)


def images_of(tiny_dataset: Path) -> list[Path]:
    return sorted((tiny_dataset / "images").glob("*.png"))[:4]


def same(found: Prediction, wanted: Prediction) -> bool:
    assert len(wanted)
    return (
        len(found) == len(wanted)
        and found.labels.tolist() == wanted.labels.tolist()
        and bool(np.allclose(found.boxes, wanted.boxes, atol=1e-3))
        and bool(np.allclose(found.scores, wanted.scores, atol=1e-6))
    )


def test_files_arrays_and_lists_give_what_the_run_gives(
    model: LoadedModel, runtime: RuntimeModel, tiny_dataset: Path
) -> None:
    files = images_of(tiny_dataset)
    for file in files:
        assert same(runtime.predict(file, min_score=0.0), model.predict(file, min_score=0.0))
    pixels = read_any_image(files[0])
    assert same(runtime.predict(pixels, min_score=0.005), model.predict(pixels, min_score=0.005))
    assert same(runtime.predict(Image.open(files[1]), min_score=0.0), model.predict(files[1], min_score=0.0))
    found = runtime.predict(files, min_score=0.0)
    assert [len(each) for each in found] == [len(model.predict(file, min_score=0.0)) for file in files]


def test_images_of_several_sizes_and_damaged_ones_are_predicted_file_by_file(
    model: LoadedModel, runtime: RuntimeModel, tiny_dataset: Path, tmp_path: Path
) -> None:
    files = images_of(tiny_dataset)
    wide = tmp_path / "wide.png"
    Image.open(files[0]).resize((300, 100)).save(wide)
    samples = read_unlabelled([files[0], wide, files[1]], bits=16)
    bad = tmp_path / "bad.png"
    bad.write_bytes(files[0].read_bytes()[:-200])
    samples = (*samples, replace(samples[0], path=bad, image_id=9))
    found = {sample.image_id: each for sample, each in runtime.predict_files(samples)}
    assert isinstance(found.pop(9), InputError)
    wanted = {sample.image_id: each for sample, each in model.predict_files(samples[:3])}
    assert found.keys() == wanted.keys()
    for key, each in wanted.items():
        assert same(found[key], each)


def test_tiles_are_cut_and_merged_as_in_a_run(small_run: Path, runtime: RuntimeModel, tiny_dataset: Path) -> None:
    tiles = TileSettings(size=64)
    tiled = RuntimeModel(Path(), replace(runtime.bundle, tiles=tiles), runtime.sessions)
    file = images_of(tiny_dataset)[0]
    wanted = tlvision.load(small_run, tiles=64).predict(file, min_score=0.0)
    assert same(tiled.predict(file, min_score=0.0), wanted)
    assert not same(runtime.predict(file, min_score=0.0), wanted)


def test_the_thresholds_of_the_bundle_decide_unless_another_score_is_given(
    runtime: RuntimeModel, tiny_dataset: Path
) -> None:
    file = images_of(tiny_dataset)[0]
    every = runtime.predict(file, min_score=0.0)
    least = float(np.sort(every.scores)[len(every) // 2])
    thresholds = replace(runtime.bundle.thresholds, default=least, per_class={})
    strict = RuntimeModel(Path(), replace(runtime.bundle, thresholds=thresholds), runtime.sessions)
    assert len(strict.predict(file)) == int((every.scores >= least).sum()) < len(every)


def test_numbers_that_are_not_finite_are_an_error(runtime: RuntimeModel, tiny_dataset: Path) -> None:
    class Broken:
        def run(self, inputs: object, *, taps: bool = False) -> dict[str, np.ndarray]:
            return {"boxes": np.full((1, 2, 4), np.nan, np.float32), "scores": np.ones((1, 2, 3), np.float32)}

    broken = RuntimeModel(Path("b"), runtime.bundle, {"model": Broken()})
    with pytest.raises(RunError, match="output 'boxes' of graph 'model' of 'b' is not finite"):
        broken.predict(images_of(tiny_dataset)[0])


def test_a_wrong_image_is_a_sentence(runtime: RuntimeModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        runtime.predict(tmp_path / "absent.png")
    with pytest.raises(InputError, match="expected an array"):
        runtime.predict(np.zeros((3, 4, 7), np.uint8))
    with pytest.raises(InputError, match="min_score"):
        runtime.predict(np.zeros((3, 4, 3), np.uint8), min_score=2.0)


def test_a_bundle_that_finds_fewer_or_more_objects_is_refused(
    model: LoadedModel, runtime: RuntimeModel, tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outputs of the graphs are the same; what is read from them is not."""
    assert isinstance(model.adapter, Exportable)
    monkeypatch.setattr(compare, "LEAST", 0.0)
    graphs = model.adapter.export_graphs(torch.zeros(2, 3, 96, 96))
    samples = read_unlabelled(images_of(tiny_dataset), bits=16)
    found = compare.compare_bundle(runtime, model.adapter, graphs, samples, 96)
    assert (found.images, found.same) == (4, 1.0)
    assert found.objects > 100
    for change in ({"most": 100}, {"nms_iou": 0.9}):  # fewer, and objects that the model has suppressed
        other = replace(runtime.bundle, decoder=replace(graphs.decoder, **change))  # type: ignore[type-var]
        with pytest.raises(RunError, match=r"bundle and model find the same \d\d\.\d%"):
            compare.compare_bundle(RuntimeModel(Path(), other, runtime.sessions), model.adapter, graphs, samples, 96)
    monkeypatch.setattr(compare, "LEAST", 0.99)  # of which there are none: not measured, and not perfect
    nothing = compare.compare_bundle(runtime, model.adapter, graphs, samples, 96)
    assert (nothing.objects, nothing.same) == (0, None)


def test_an_object_with_another_mask_is_another_object() -> None:
    masks = np.zeros((1, 20, 20), np.uint8)
    masks[0, 5:15, 5:15] = 1
    one = Prediction(
        boxes=np.array([[5, 5, 15, 15]], np.float32),
        scores=np.array([0.5], np.float32),
        labels=np.zeros(1, np.int64),
        masks=masks,
    )
    moved = masks.copy()
    moved[0, 5:15, 5] = 0
    for other, share in ((masks, 1.0), (moved, 0.0), (None, 0.0)):
        tally = compare.Tally(0.05)
        tally.add(one, replace(one, masks=other))
        assert tally.share == share
