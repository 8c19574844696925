"""DeepLabV3+'s label maps from a file, ours against mmseg's own inference; docs/equal-predictions.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from safetensors.torch import load_file

import tlvision

ARCH, SIZE = "deeplabv3plus_mobilenet-v2-d16", 320
# A JPEG that is decoded at half its size has other pixels than one that is shrunk afterwards.
DECODED_SMALLER = "huge.jpg"

pytestmark = [pytest.mark.shared, pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture
def model(few_streets: Any, brief_run: Any, shared: Path) -> Any:
    weights = str(shared / "weights" / "mobilenet_v2-imagenet-from-int8.pth")
    description = {"plugin": "mmseg", "arch": ARCH, "weights": weights}
    return tlvision.load(brief_run(description, few_streets, epochs=6, optimizer="adamw", lr=2e-3))


def upstream_of(model: Any, path: Path) -> Any:
    """Return mmseg's own model with the weights of ours; its input is padded to multiples of 32, as ours is."""
    from mmengine.config import Config
    from mmseg.apis import init_model

    from tlvision_openmmlab.mmseg.zoo import find_config

    config = Config.fromfile(str(find_config(ARCH)))
    config.model.decode_head.num_classes = config.model.auxiliary_head.num_classes = len(model.classes)
    config.model.data_preprocessor["test_cfg"] = {"size_divisor": 32}
    resize = {"type": "Resize", "scale": (SIZE, SIZE), "keep_ratio": True}
    config.test_pipeline = [{"type": "LoadImageFromFile"}, resize, {"type": "PackSegInputs"}]
    tensors = load_file(model.folder / "checkpoints" / "best" / "model.safetensors")
    meta = {"dataset_meta": {"classes": model.classes.names, "palette": [[0, 0, 0]] * len(model.classes)}}
    torch.save({"state_dict": tensors, "meta": meta}, path)
    return init_model(config, str(path), device="cpu")


def test_label_maps_are_upstreams(  # noqa: PLR0917
    model: Any, streets: list[Path], tmp_path: Path, same_resize: Any, pixels_that_differ: Any, monkeypatch: Any
) -> None:
    from mmseg.apis import inference_model

    files = [file for file in streets if file.name != DECODED_SMALLER]
    ours, net = model.predict(files), upstream_of(model, tmp_path / "upstream.pth")
    with monkeypatch.context() as patch:
        patch.setattr(cv2, "resize", same_resize)
        theirs = [inference_model(net, str(file)).pred_sem_seg.data[0].numpy() for file in files]
    total, different = pixels_that_differ(files, ours, theirs)
    assert total > 2_500_000
    assert different < 0.001 * total
