"""A bundle of an untrained toy model, whose graphs stay in torch, and images that differ as photos of one place do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from tlvision.export.taps import with_taps
from tlvision.export.torch_session import torch_sessions
from tlvision.formats.coco import read_unlabelled
from tlvision.monitoring.record import Record, make_record
from tlvision.monitoring.reference import predict_with_reference
from tlvision.plugin import BuildSpec, Exportable, get_plugin
from tlvision.runtime.bundle import Bundle, write_bundle
from tlvision.runtime.model import RuntimeModel
from tlvision.types import ClassMap, ClassThresholds, Sample


def toy_bundle(folder: Path, arch: str = "tiny_detector", images: Sequence[Path] = ()) -> RuntimeModel:
    """Write a bundle, with a reference if there are images, and return its model; its graph file can't be opened."""
    torch.manual_seed(0)
    classes = ClassMap(("dark", "light"), (3, 90))
    adapter, _ = get_plugin("toy").build(BuildSpec(arch=arch, weights="none", classes=classes, image_size=96))
    adapter.module.eval()
    assert isinstance(adapter, Exportable)
    graphs = with_taps(adapter.export_graphs(torch.zeros(2, 3, 96, 96)), adapter)
    bundle = Bundle(
        task="detect" if arch == "tiny_detector" else "semantic",
        name="toy",
        classes=classes,
        input_spec=adapter.input_spec,
        image_size=96,
        decoder=graphs.decoder,
        graphs={"model": "model.onnx"},
        graph_format="onnx",
        thresholds=ClassThresholds(0.0101),  # an untrained model gives about 0.01 everywhere
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(b"no graph")
    write_bundle(folder, bundle)
    model = RuntimeModel(folder, bundle, torch_sessions(graphs))
    if images:
        assert list(predict_with_reference(model, samples_of(images), folder / "reference.jsonl"))
        write_bundle(folder, bundle)
    return model


def samples_of(images: Sequence[Path]) -> tuple[Sample, ...]:
    return read_unlabelled(images)


def photos(folder: Path, count: int, *, seed: int = 0, light: float = 0.0, boxes: int = 3) -> list[Path]:
    """Write images of 96 x 64 pixels with up to `boxes` squares. light: is added to the brightness, -255..255."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for number in range(count):
        image = rng.integers(60, 100, (64, 96, 3)).astype(np.float32) + rng.normal(0, 8) + light
        for _ in range(rng.integers(0, boxes + 1)):
            x, y, size = rng.integers(0, 70), rng.integers(0, 40), rng.integers(10, 24)
            image[y : y + size, x : x + size] = rng.integers(120, 250, 3) + light
        paths.append(folder / f"{number:03d}.png")
        cv2.imwrite(str(paths[-1]), np.clip(image, 0, 255).astype(np.uint8))
    return paths


def records_of(model: RuntimeModel, images: Sequence[Path]) -> list[Record]:
    return [
        make_record(sample.path.name, found, seen, (sample.width, sample.height), model.selection, bundle="")
        for sample, found, seen in model.observe_samples(samples_of(images))
    ]
