"""The adapter against upstream's own way: the same losses, the same label maps, on the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fast import first_fast
from tlvision.data.batches import normalise
from tlvision.plugin import Adapter, BuildSpec, HasDenseLogits, get_plugin, score_kind
from tlvision.types import ClassMap, InputError, InputSpec, Target
from tlvision_openmmlab.common.engine import PixelData, without_old_style
from tlvision_openmmlab.mmseg.config import adapted, read_config
from tlvision_openmmlab.mmseg.upstream import MODELS, GenerateEdge, SegDataSample
from tlvision_openmmlab.mmseg.zoo import find_config

CONFIGS = Path(__file__).parent / "configs"
CLASSES = ClassMap.from_names(("ant", "bee", "cat"))
LIGHT = "deeplabv3plus_mobilenet-v2-d16"
PIDNET = "pidnet-s_2xb6-120k_1024x1024-cityscapes"
SEGNEXT = "segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512"
MASK2FORMER = str(CONFIGS / "mask2former_tiny.py")


def build(arch: str) -> Any:
    torch.manual_seed(0)
    return get_plugin("mmseg").build(BuildSpec(arch=arch, weights="none", classes=CLASSES, image_size=96))[0]


def pictures(size: tuple[int, int] = (96, 128)) -> torch.Tensor:
    """(2, 3, H, W) uint8 RGB."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, *size), dtype=np.uint8))


def label_map(size: tuple[int, int], value: int = 0) -> Target:
    semantic = torch.full(size, value)
    if value != 255:
        semantic[: size[0] // 2, size[1] // 3 :] = 2
        semantic[:8] = 255
    return Target(
        boxes=torch.zeros((0, 4)),
        labels=torch.zeros(0, dtype=torch.int64),
        crowd=torch.zeros(0, dtype=torch.bool),
        semantic=semantic,
    )


def upstreams_batch(arch: str, images: torch.Tensor, targets: list[Target], *, training: bool) -> Any:
    """Return what upstream's pre-processing makes of BGR images, as its own loader gives them."""
    from mmengine.registry import DefaultScope

    settings = dict(read_config(find_config(arch)).model["data_preprocessor"])
    settings["size"] = tuple(images.shape[-2:])
    with DefaultScope.overwrite_default_scope("mmseg"):
        preprocessor = MODELS.build(settings)
    samples = []
    for target in targets:
        size = tuple(images.shape[-2:])
        sample = SegDataSample(metainfo={"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)})
        sample.gt_sem_seg = PixelData(data=target.semantic[None])
        step = {"img_shape": size, "gt_seg_map": target.semantic.numpy()}
        edges = GenerateEdge(edge_width=4).transform(step)["gt_edge_map"]
        sample.gt_edge_map = PixelData(data=torch.from_numpy(edges)[None].long())
        samples.append(sample)
    return preprocessor({"inputs": list(images.flip(1)), "data_samples": samples}, training=training)


@pytest.mark.parametrize("arch", first_fast([LIGHT, PIDNET, MASK2FORMER]), ids=lambda arch: Path(arch).stem)
def test_the_losses_are_what_upstream_sums(arch: str) -> None:
    adapter = build(arch)
    targets = [label_map((96, 128)), label_map((96, 128), 1)]
    torch.manual_seed(7)
    ours = sum(adapter.loss(normalise(pictures(), adapter.input_spec), targets).values())
    data = upstreams_batch(arch, pictures(), targets, training=True)
    torch.manual_seed(7)
    with without_old_style():
        theirs = adapter.module.parse_losses(adapter.module.loss(data["inputs"], data["data_samples"]))[0]
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("arch", first_fast([LIGHT, MASK2FORMER]), ids=lambda arch: Path(arch).stem)
def test_the_label_maps_are_upstreams(arch: str) -> None:
    adapter = build(arch)
    adapter.module.eval()
    found = adapter.predict(normalise(pictures(), adapter.input_spec))
    data = upstreams_batch(arch, pictures(), [label_map((96, 128))] * 2, training=False)
    with torch.no_grad(), without_old_style():
        theirs = adapter.module.predict(data["inputs"], data["data_samples"])
    for ours, sample in zip(found, theirs, strict=True):
        assert len(ours) == 0
        assert (ours.semantic == sample.pred_sem_seg.data[0]).float().mean() > 0.999


def test_scores_are_of_the_mode_and_have_gradients() -> None:
    adapter = build(PIDNET)
    assert isinstance(adapter, HasDenseLogits)
    images = torch.randn(2, 3, 64, 64)
    for mode in (True, False):
        adapter.module.train(mode)
        scores = adapter.dense_logits(images)
        assert scores.shape == (2, 3, 64, 64)
        assert scores.requires_grad
    adapter.module.train()
    with pytest.raises(RuntimeError, match="eval mode"):
        adapter.predict(images)


@pytest.mark.parametrize(
    ("arch", "kind"),
    first_fast(
        [
            (PIDNET, "logits"),
            (MASK2FORMER, "probabilities"),
            ("fast_scnn_8xb4-160k_cityscapes-512x1024", "sigmoid"),
            (LIGHT, "logits"),
            ("maskformer_r50-d32_8xb2-160k_ade20k-512x512", "probabilities"),
        ],
        3,
    ),
    ids=lambda value: Path(value).stem,
)
def test_what_the_scores_are_is_declared(arch: str, kind: str) -> None:
    adapter = build(arch)
    assert score_kind(adapter) == kind
    adapter.module.eval()
    with torch.no_grad():
        scores = adapter.dense_logits(torch.randn(1, 3, 64, 64))
    assert bool((scores < 0).any()) is (kind != "probabilities")


def test_a_head_that_draws_random_numbers_gives_each_image_the_same_scores_every_time() -> None:
    adapter = build(SEGNEXT)
    adapter.module.eval()
    images = torch.randn(2, 3, 64, 64)
    state = torch.random.get_rng_state()
    with torch.no_grad():
        both = adapter.dense_logits(images)
        assert torch.allclose(both[1:], adapter.dense_logits(images[1:]), atol=1e-6)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    "arch",
    first_fast([PIDNET, LIGHT, MASK2FORMER, "ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024"]),
    ids=lambda arch: Path(arch).stem,
)
def test_a_batch_of_ignored_pixels_gives_finite_losses_in_the_graph(arch: str) -> None:
    adapter = build(arch)
    losses = adapter.loss(torch.randn(2, 3, 64, 64), [label_map((64, 64), 255)] * 2)
    assert all(loss.isfinite() and loss.requires_grad for loss in losses.values())
    sum(losses.values()).backward()
    grads = [parameter.grad for parameter in adapter.module.parameters() if parameter.grad is not None]
    assert grads
    assert all(grad.isfinite().all() for grad in grads)


def test_too_small_a_batch_and_a_missing_label_map_say_what_to_do() -> None:
    adapter = build(LIGHT)
    with pytest.raises(InputError, match=r"has 1 image of 64 x 64: at least 2 are needed"):
        adapter.loss(torch.randn(1, 3, 64, 64), [label_map((64, 64))])
    boxes_only = Target(
        boxes=torch.zeros((0, 4)), labels=torch.zeros(0, dtype=torch.int64), crowd=torch.zeros(0, dtype=torch.bool)
    )
    with pytest.raises(InputError, match="no label map"):
        adapter.loss(torch.randn(1, 3, 64, 64), [boxes_only])


@pytest.mark.parametrize(
    ("arch", "mean", "std", "pad"),
    [
        (LIGHT, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), (124, 116, 104)),
        (
            "cgnet_fcn_4xb4-60k_cityscapes-680x680",
            (72.39239876, 82.90891754, 73.15835921),
            (1.0, 1.0, 1.0),
            (72, 83, 73),
        ),
    ],
)
def test_the_configs_normalisation_is_the_input_spec(arch: str, mean: Any, std: Any, pad: Any) -> None:
    expected = InputSpec(place="corner", mean=mean, std=std, value_range=255.0, pad_value=pad)
    assert read_config(find_config(arch)).input_spec == expected


def test_nothing_that_the_config_freezes_is_frozen_and_no_norm_needs_a_gpu() -> None:
    module = build(MASK2FORMER).module.train()
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(child.training for child in module.modules())
    assert not any(isinstance(child, torch.nn.SyncBatchNorm) for child in module.modules())


@pytest.mark.slow
def test_one_channel_for_two_classes_becomes_a_channel_each(tmp_path: Path) -> None:
    path = tmp_path / "binary.py"
    path.write_text(
        '_base_ = "mmseg::_base_/models/fcn_unet_s5-d16.py"\n'
        "binary = dict(num_classes=2, out_channels=1, ignore_index=0, loss_decode=[\n"
        '    dict(type="CrossEntropyLoss", use_sigmoid=True, class_weight=[1.0, 9.0]),\n'
        '    dict(type="DiceLoss", loss_name="loss_dice")])\n'
        "model = dict(decode_head=binary, auxiliary_head=binary)\n",
        encoding="utf-8",
    )
    model = adapted(read_config(path), 2, 96)
    for name in ("decode_head", "auxiliary_head"):
        head = model[name]
        assert (head.num_classes, head.get("out_channels"), head.ignore_index) == (2, None, 255)
        assert head.loss_decode[0] == {"type": "CrossEntropyLoss", "use_sigmoid": False}
    adapter: Adapter = build(str(path))
    adapter.module.eval()
    with torch.no_grad():
        assert adapter.dense_logits(torch.randn(1, 3, 64, 64)).shape == (1, 3, 64, 64)  # type: ignore[attr-defined]


def test_a_head_for_edges_keeps_its_classes() -> None:
    model = adapted(read_config(find_config("stdc1_4xb12-80k_cityscapes-512x1024")), 5, 96)
    assert [head.num_classes for head in (model.decode_head, *model.auxiliary_head)] == [5, 5, 5, 2]
    assert model.auxiliary_head[2].loss_decode[0].use_sigmoid


def test_a_model_that_is_no_segmenter_of_images_is_refused() -> None:
    folder = find_config("fcn_r18-d8_4xb2-80k_cityscapes-512x1024").parent.parent
    with pytest.raises(InputError, match=r"of the type 'DepthEstimator', which is not supported"):
        read_config(folder / "vpd" / "vpd_sd_4xb8-25k_nyu-480x480.py")
    with pytest.raises(InputError, match="takes images of 6 channels; expected 3"):
        read_config(folder / "swin" / "swin-tiny-patch4-window7_upernet_1xb8-20k_levir-256x256.py")
