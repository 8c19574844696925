"""Pruning: which channels are chosen, that they stay at zero, and that an export is smaller and predicts the same."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tlvision
from families import build_family, write_weights
from tlvision.config.load import load_config
from tlvision.engine.build import build_run
from tlvision.hooks.setup.prune import Prune
from tlvision.types import InputError


@pytest.fixture
def pruned_config(tiny_config: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Three steps an epoch from weights, with half of the channels pruned, and an average."""
    tiny_config["model"]["weights"] = write_weights("toy", tmp_path / "weights")
    tiny_config["data"]["workers"] = 0
    tiny_config["train"]["verify"] = "every_step"
    log = {"log": {"progress": "none", "tensorboard": "off", "every": 1}}
    tiny_config["hooks"] = [{"ema": {"decay": 0.5, "warmup": 0}}, {"prune": {"ratio": 0.5}}, log]
    return tiny_config


def zero_rows(weights: dict[str, torch.Tensor]) -> dict[str, list[int]]:
    found = {name: each.flatten(1).abs().amax(1).eq(0).nonzero() for name, each in weights.items() if each.ndim == 4}
    return {name: rows.flatten().tolist() for name, rows in found.items() if len(rows)}


def test_the_channels_with_the_smallest_weights_are_chosen() -> None:
    adapter = build_family("toy")
    before = copy.deepcopy(adapter.module).state_dict()
    hook = Prune(ratio=0.4)
    hook.prepare(adapter)
    rows = zero_rows(dict(adapter.module.state_dict()))
    assert len(rows) > 5
    for name, chosen in rows.items():
        channels = len(before[name])
        kept = channels - len(chosen)
        assert kept % 8 == 0
        assert kept >= 0.6 * channels > kept - 8
    # Nothing is added to these channels: they are judged by the norms of their own rows and scales.
    own = before["backbone.stage1.conv1.weight"].flatten(1).norm(dim=1)
    scale = before["backbone.stage1.norm1.weight"].abs()
    score = own / own.mean() + scale / scale.mean()
    assert sorted(score.argsort()[:8].tolist()) == rows["backbone.stage1.conv1.weight"]


def test_what_is_pruned_stays_at_zero_and_the_average_has_it_too(pruned_config: dict[str, Any]) -> None:
    """Biases as well, and whether the average comes before or after the hook."""
    built = build_run(load_config(pruned_config)).adapter.module.state_dict()
    zeros = {
        name: tensor.flatten(1).eq(0).all(1) if tensor.ndim > 1 else tensor.eq(0) for name, tensor in built.items()
    }
    chosen = zero_rows(built)
    assert sum(map(len, chosen.values())) > 30
    start = load_file(pruned_config["model"]["weights"])
    moved = {name for name, tensor in start.items() if name.endswith("bias") and not torch.equal(tensor, built[name])}
    assert moved, "biases are set to zero"
    result = tlvision.train(pruned_config)
    for folder in ("best", "last"):
        weights = load_file(result.run / "checkpoints" / folder / "model.safetensors")
        assert zero_rows(weights) == chosen
        assert all(weights[name][zeros[name]].eq(0).all() for name in moved)
        assert not torch.equal(weights[next(iter(chosen))], built[next(iter(chosen))]), "the others are trained"
    log = [json.loads(line) for line in (result.run / "log.jsonl").read_text().splitlines()]
    assert any("channels are 0; `tlvision export` leaves them out" in str(line) for line in log)


@pytest.mark.slow
def test_a_resumed_run_has_the_same_channels(pruned_config: dict[str, Any], tmp_path: Path) -> None:
    straight = tlvision.train(pruned_config).run
    pruned_config["run"]["out"] = str(tmp_path / "stopped")
    stopped = tlvision.train(pruned_config, until=1).run
    tlvision.train({}, resume=stopped)
    one, other = (load_file(run / "checkpoints" / "last" / "model.safetensors") for run in (straight, stopped))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_only_the_chosen_groups_are_pruned_and_an_unknown_one_is_a_sentence(pruned_config: dict[str, Any]) -> None:
    pruned_config["hooks"][1] = {"prune": {"ratio": 0.5, "groups": ["backbone.stage4"]}}
    run = build_run(load_config(pruned_config))
    rows = zero_rows(dict(run.adapter.module.state_dict()))
    assert rows
    assert all(name.startswith("backbone.stage4") for name in rows)
    pruned_config["hooks"][1] = {"prune": {"groups": ["backbone.stage9"]}}
    with pytest.raises(InputError, match=r"no layer group 'backbone\.stage9'"):
        build_run(load_config(pruned_config))


def test_nothing_to_prune_is_a_sentence() -> None:
    with pytest.raises(InputError, match=r"prune: no layer of the chosen groups can lose 1% of its channels"):
        Prune(ratio=0.01, multiple=1000).prepare(build_family("toy"))


@pytest.mark.slow
def test_the_export_is_smaller_and_predicts_the_same(pruned_config: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    import tlvision.runtime

    pruned = tlvision.load(tlvision.train(pruned_config).run)
    pruned_config["hooks"] = [each for each in pruned_config["hooks"] if "prune" not in each]
    pruned_config["run"]["out"] = str(tmp_path / "whole")
    whole = tlvision.load(tlvision.train(pruned_config).run)
    sizes = [
        (run.export(tmp_path / name).folder / "model.onnx").stat().st_size
        for name, run in (("small", pruned), ("large", whole))
    ]
    assert sizes[0] < 0.6 * sizes[1]
    images = [np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)]
    found = tlvision.runtime.load(tmp_path / "small").predict(images, min_score=0)
    wanted = pruned.predict(images, min_score=0)
    assert len(wanted[0].scores) > 10
    np.testing.assert_allclose(found[0].scores, wanted[0].scores, atol=1e-4)


def test_numbers_without_axes_stay_so_in_the_graph(tmp_path: Path) -> None:
    """OpenVINO compiles no graph whose scalars have become vectors of one element; ONNX Runtime runs it."""
    onnx = pytest.importorskip("onnx")
    from tlvision.export.shrink import leave_out_zero_channels

    make, number = onnx.helper.make_node, onnx.numpy_helper.from_array
    weight = np.ones((4, 3, 1, 1), np.float32)
    weight[:2] = 0
    nodes = [
        make("Conv", ["images", "weight"], ["seen"]),
        make("Mul", ["seen", "half"], ["scaled"]),
        make("Conv", ["scaled", "head"], ["scores"]),
    ]
    constants = [number(weight, "weight"), number(np.float32(0.5), "half"), number(np.ones((1, 4, 1, 1), "f"), "head")]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 8, 8])
        for name, channels in (("images", 3), ("scores", 1))
    ]
    path = tmp_path / "graph.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "graph", values[:1], values[1:], constants)), path)
    assert leave_out_zero_channels(path) == 2
    shapes = {each.name: tuple(each.dims) for each in onnx.load(path).graph.initializer}
    assert shapes == {"weight": (2, 3, 1, 1), "half": (), "head": (1, 2, 1, 1)}
