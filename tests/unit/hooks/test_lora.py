"""LoRA: the layers by themselves, and runs on the toy; every model family is in tests/plugins/test_lora.py."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import tlvision
from families import build_family, write_weights
from fast import first_fast
from tlvision.analysis.features import ModelChoice, choose_model
from tlvision.config.load import load_config
from tlvision.engine.build import build_run
from tlvision.engine.model_hooks import merge_model, modify_model
from tlvision.hooks import ModelHook
from tlvision.hooks.model.lora import Lora
from tlvision.hooks.model.low_rank import add_low_rank, merge_low_rank
from tlvision.plugin import map_groups
from tlvision.types import InputError

LAYERS = [
    nn.Linear(6, 5),
    nn.Conv2d(6, 4, 3, padding=1, bias=False),
    nn.Conv2d(6, 4, 3, groups=2, padding=1),
    nn.Conv2d(6, 6, 3, groups=6, padding_mode="reflect", padding=1),
]


@pytest.fixture
def lora_config(tiny_config: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Three steps an epoch from weights, with LoRA, an average and proof in every step."""
    tiny_config["model"]["weights"] = write_weights("toy", tmp_path / "weights")
    tiny_config["train"]["verify"] = "every_step"
    tiny_config["data"]["workers"] = 0
    log = {"log": {"progress": "none", "tensorboard": "off", "every": 1}}
    tiny_config["hooks"] = [{"lora": {"rank": 2}}, {"ema": {"decay": 0.5, "warmup": 0}}, log]
    return tiny_config


def draw_up(module: nn.Module) -> None:
    """Give all factors `up` random values, as training would."""
    for name, parameter in module.named_parameters():
        if name.endswith("lora_up"):
            nn.init.normal_(parameter, std=0.1)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: f"{type(layer).__name__}-{getattr(layer, 'groups', '')}")
def test_a_layer_computes_with_the_sum_and_merges_into_it(layer: nn.Module) -> None:
    layer = copy.deepcopy(layer)
    kind, plain = type(layer), layer.weight.detach().clone()  # type: ignore[operator]
    images = torch.randn(2, 6, 6, 6)
    before = layer(images)
    add_low_rank(layer, rank=2, scale=3.0)
    assert isinstance(layer, kind)
    assert torch.equal(layer(images), before), "at the start the update is 0"
    draw_up(layer)
    update = (layer.lora_up @ layer.lora_down).view(plain.shape)  # type: ignore[operator]
    assert torch.equal(layer.weight, plain + 3.0 * update)
    assert torch.equal(dict(layer.named_parameters())["weight"], plain), "the pretrained weight stays"
    twin = copy.deepcopy(layer)
    trained = layer(images)
    assert not torch.allclose(trained, before)
    merge_low_rank(layer)
    assert type(layer) is kind
    assert list(layer.state_dict()) == ["weight", "bias"][: 2 if layer.bias is not None else 1]
    assert torch.equal(layer(images), trained)
    assert torch.equal(twin(images), trained), "a copy has factors of its own"


def test_a_convolution_with_factors_is_one_to_rank_channels_and_one_of_1_x_1() -> None:
    layer = nn.Conv2d(6, 4, 3, padding=1)
    plain = copy.deepcopy(layer)
    add_low_rank(layer, rank=2, scale=0.5)
    draw_up(layer)
    images = torch.randn(2, 6, 8, 8)
    down = nn.functional.conv2d(images, layer.lora_down.view(2, 6, 3, 3), padding=1)
    up = nn.functional.conv2d(down, layer.lora_up.view(4, 2, 1, 1))
    torch.testing.assert_close(layer(images), plain(images) + 0.5 * up)


@pytest.mark.parametrize("part", ["in_proj", "out_proj"])
def test_attention_which_reads_weights_directly_has_the_update(part: str) -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    tokens = torch.randn(1, 3, 8)
    before = attention(tokens, tokens, tokens)[0]
    layer = attention if part == "in_proj" else attention.out_proj
    add_low_rank(layer, rank=2, scale=1.0)
    assert torch.equal(attention(tokens, tokens, tokens)[0], before)
    draw_up(layer)
    trained = attention(tokens, tokens, tokens)[0]
    assert not torch.allclose(trained, before)
    with torch.no_grad():  # torch has a faster way then
        torch.testing.assert_close(attention(tokens, tokens, tokens)[0], trained)
    merge_low_rank(layer)
    assert torch.equal(attention(tokens, tokens, tokens)[0], trained)


def test_only_factors_and_head_are_trained_and_every_name_stays() -> None:
    plain, adapter = build_family("toy"), build_family("toy")
    hook = Lora(rank=2)
    (sentence,) = modify_model([hook], adapter)
    assert "factors of rank 2 on" in sentence
    names = [name for name, _ in adapter.module.named_parameters()]
    added = [name for name in names if "lora_" in name]
    assert added
    assert [name for name in names if name not in added] == [name for name, _ in plain.module.named_parameters()]
    groups = map_groups(adapter.module, adapter.groups)
    for name in added:
        assert groups.parameters[name] == groups.parameters[f"{name.rpartition('.')[0]}.weight"]
        assert groups.groups[groups.parameters[name]].role != "head"


def test_every_layer_without_factors_is_counted_with_the_reason() -> None:
    adapter = build_family("toy")
    module: Any = adapter.module
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}
    first, second, *_ = (layer for layer in layers.values() if layer.weight.numel() > 200)
    first.weight.requires_grad_(False)
    (sentence,) = modify_model([Lora(rank=2)], adapter)
    assert "1 Conv2d (constant)" in sentence
    groups = map_groups(module, adapter.groups)
    body = [
        name
        for name, parameter in module.named_parameters()
        if parameter.ndim > 1 and "lora" not in name and groups.groups[groups.parameters[name]].role != "head"
    ]
    with_factors = sum(name.endswith("lora_up") for name, _ in module.named_parameters())
    without = [int(part.split()[0]) for part in sentence.partition("without factors: ")[2].split(", ")]
    assert with_factors + sum(without) == len(body)
    assert not hasattr(first, "lora_up")
    assert hasattr(second, "lora_up")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"groups": ["backbone.stage9"]}, "no layer group 'backbone.stage9'"),
        (
            {"rank": 4000},
            r"no layer .* can have factors of rank 4000; .*18 Conv2d \(no larger than its",
        ),
    ],
)
def test_a_choice_without_layers_is_an_error(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        modify_model([Lora(**options)], build_family("toy"))


def test_named_groups_alone_have_factors_and_the_rest_is_frozen(lora_config: dict[str, Any]) -> None:
    lora_config["hooks"][0] = {"lora": {"rank": 2, "groups": ["neck"]}}
    parts = build_run(load_config(lora_config))
    groups = parts.plan.groups
    trained = parts.plan.trained()
    assert any("lora" in name for name in trained)
    for name in trained:
        group = groups.groups[groups.parameters[name]]
        assert group.role == "head" or ("lora" in name and group.name == "neck")


def test_a_run_moves_nothing_pretrained_and_saves_what_evaluate_loads(
    lora_config: dict[str, Any], tmp_path: Path
) -> None:
    result = tlvision.train(lora_config)
    start = load_file(lora_config["model"]["weights"])
    rows = {row["parameter"]: row for row in json.loads((result.run / "ledger.json").read_text())["rows"]}
    frozen = [name for name, row in rows.items() if row["trainable_from"] is None]
    assert frozen
    assert all(rows[name]["why"] == "lora" for name in frozen)
    optimizer = load_file(str(result.run / "checkpoints" / "last" / "optimizer.safetensors"))
    assert {key.partition("|")[0] for key in optimizer} == rows.keys() - set(frozen)
    for name in ("last", "best"):
        saved = load_file(str(result.run / "checkpoints" / name / "model.safetensors"))
        assert saved.keys() > start.keys()
        assert all(torch.equal(saved[key], start[key]) for key in frozen)
        assert all(saved[key].abs().sum() > 0 for key in saved if key.endswith("lora_up"))
    model = tlvision.load(result.run).model
    best = load_file(str(result.run / "checkpoints" / "best" / "model.safetensors"))
    assert all(torch.equal(best[key], value) for key, value in model.adapter.module.state_dict().items())
    image = next(Path(lora_config["data"]["val"]["images"]).iterdir())
    trained = model.predict(image, min_score=0)
    assert len(trained)
    merge_model(model.model_hooks, model.adapter)
    assert model.adapter.module.state_dict().keys() == start.keys()
    merged = model.predict(image, min_score=0)
    assert torch.equal(torch.from_numpy(merged.boxes), torch.from_numpy(trained.boxes))
    assert torch.equal(torch.from_numpy(merged.scores), torch.from_numpy(trained.scores))


@pytest.mark.slow
def test_merged_weights_start_a_run_without_the_hook_and_others_are_refused(
    lora_config: dict[str, Any], tmp_path: Path
) -> None:
    from tlvision.engine.merge import merge_run

    run = tlvision.train(lora_config).run
    with pytest.raises(InputError, match=r"ends in \.safetensors"):
        merge_run(run, tmp_path / "merged.pt")
    assert merge_run(run, tmp_path / "merged.safetensors") == ("lora",)
    plain = {**lora_config, "hooks": lora_config["hooks"][1:], "run": {"out": str(tmp_path / "plain")}}
    plain["model"] = {**lora_config["model"], "weights": str(run / "checkpoints" / "best" / "model.safetensors")}
    with pytest.raises(InputError, match=r"holds parameters of the hook lora.*tlvision merge"):
        tlvision.train(plain)
    with pytest.raises(InputError, match=r"holds parameters of the hook lora.*tlvision merge"):
        choose_model(ModelChoice(plugin="toy", arch="tiny_detector", weights=plain["model"]["weights"]), seed=0)
    plain["model"]["weights"] = str(tmp_path / "merged.safetensors")
    report = build_run(load_config(plain)).report
    assert (report.missing, report.unused, report.mismatched, report.remapped) == ((), (), (), ())
    with pytest.raises(InputError, match=r"no hook of .* has changed the model"):
        merge_run(tlvision.train(plain).run, tmp_path / "again.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("step", first_fast([4, 1]))
def test_a_resumed_run_ends_with_the_same_bits(
    step: int, lora_config: dict[str, Any], assert_resumes: Callable[[dict[str, Any], int], None]
) -> None:
    lora_config["hooks"] += ["l2_sp", {"layerwise_lr": {"decay": 0.8}}, {"gradual_unfreeze": {"at": [0.2, 0.3, 0.5]}}]
    lora_config["hooks"][-1]["gradual_unfreeze"]["down_to"] = "backbone.stage3"
    assert_resumes(lora_config, step)


@pytest.mark.slow
def test_the_hook_cannot_come_go_or_change_on_resume(lora_config: dict[str, Any]) -> None:
    run = tlvision.train(lora_config).run
    for change in ("hooks=[ema]", "hooks.lora.rank=3"):
        with pytest.raises(InputError, match=r"hooks\.lora.* cannot change"):
            tlvision.train({}, [change, "train.epochs=3"], resume=run)


def test_factors_that_another_hook_freezes_are_an_error(lora_config: dict[str, Any]) -> None:
    lora_config["hooks"].append({"freeze": {"roles": ["stem", "backbone", "neck"]}})
    with pytest.raises(InputError, match="lora: another hook freezes all layers"):
        tlvision.train(lora_config)


def test_a_layer_that_the_model_does_not_run_is_named(
    lora_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def direct(self: nn.Conv2d, images: torch.Tensor) -> torch.Tensor:
        return self._conv_forward(images, self._parameters["weight"], self.bias)  # type: ignore[arg-type]

    monkeypatch.setattr(nn.Conv2d, "forward", direct)
    log = (tlvision.train(lora_config).run / "log.jsonl").read_text()
    assert log.count("had no gradient in step 0, because the model did not use these layers") == 1


@pytest.mark.slow
def test_a_teacher_has_the_same_modules(lora_config: dict[str, Any], tiny_dataset: Path) -> None:
    lora_config["data"] |= {
        "target": {"images": str(tiny_dataset / "images")},
        "batch": {"labelled": 4, "unlabelled": 4},
    }
    lora_config["hooks"] += [{"pseudo_labels": {"burn_in": 0.0}}, "mean_teacher", "adabn"]
    result = tlvision.train(lora_config)
    assert result.metrics
    tlvision.load(result.run)


class Renames(ModelHook):
    def modify(self, adapter: Any) -> list[str]:
        path, layer = next((p, m) for p, m in adapter.module.named_modules() if isinstance(m, nn.Conv2d))
        adapter.module.get_submodule(path.rpartition(".")[0]).register_module("new", nn.Sequential(layer))
        del adapter.module.get_submodule(path.rpartition(".")[0])._modules[path.rpartition(".")[2]]
        return []


def test_a_model_hook_that_renames_a_parameter_is_refused() -> None:
    with pytest.raises(InputError, match=r"'renames' has replaced or renamed '.*weight'"):
        modify_model([Renames()], build_family("toy"))
    with pytest.raises(InputError, match="has no merge"):
        merge_model([Renames()], build_family("toy"))
