"""A U-Net's label maps from a file, ours against a plain loop around smp's model; docs/equal-predictions.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file
from torch.nn.functional import interpolate

import tlvision

SIZE, MULTIPLE = 320, 32
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# A JPEG that is decoded at half its size has other pixels than one that is shrunk afterwards.
DECODED_SMALLER = "huge.jpg"

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@pytest.fixture
def model(few_streets: Any, brief_run: Any, shared: Path) -> Any:
    weights = str(shared / "weights" / "mobilenet_v2-imagenet-from-int8.pth")
    description = {"plugin": "smp", "arch": "unet/mobilenet_v2", "weights": weights}
    return tlvision.load(brief_run(description, few_streets, epochs=2, optimizer="adamw", lr=1e-3))


def upstream_of(model: Any) -> Any:
    net = smp.create_model("unet", encoder_name="mobilenet_v2", encoder_weights=None, classes=len(model.classes))
    net.load_state_dict(load_file(model.folder / "checkpoints" / "best" / "model.safetensors"))
    return net.eval()


def label_map(net: Any, file: Path, resize: Callable[..., Any]) -> Any:
    """Return (H, W), the loop that users of smp write: read, resize, normalise, pad, score, cut, enlarge, argmax."""
    image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    gain = SIZE / max(height, width)
    tall, wide = round(height * gain), round(width * gain)
    values = (resize(image, (wide, tall)) / 255 - np.array(MEAN)) / np.array(STD)
    padded = np.pad(values, ((0, -tall % MULTIPLE), (0, -wide % MULTIPLE), (0, 0))).astype(np.float32)
    with torch.inference_mode():
        scores = net(torch.from_numpy(padded).permute(2, 0, 1)[None])[..., :tall, :wide]
        return interpolate(scores, size=(height, width), mode="bilinear")[0].argmax(0).numpy()


def test_label_maps_are_upstreams(model: Any, streets: list[Path], same_resize: Any, pixels_that_differ: Any) -> None:
    files = [file for file in streets if file.name != DECODED_SMALLER]
    net = upstream_of(model)
    theirs = [label_map(net, file, same_resize) for file in files]
    total, different = pixels_that_differ(files, model.predict(files), theirs)
    assert total > 2_500_000
    assert different < 0.001 * total
