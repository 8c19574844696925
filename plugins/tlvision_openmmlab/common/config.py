"""Read the model of an OpenMMLab config, and change its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tlvision.types import InputError, InputSpec
from tlvision_openmmlab.common.engine import Config, ConfigDict, quiet
from tlvision_openmmlab.common.timm_backbone import is_timm_backbone
from tlvision_timm.names import PREFIX


@dataclass(frozen=True, slots=True, eq=False)
class ModelConfig:
    """The model section of a config.

    library:    whose config it is, "mmdet" or "mmseg".
    path:       the file.
    model:      the description that the library builds the model from, as the file has it.
    input_spec: how images must arrive.
    classes:    names of the classes that the config's own dataset has; None if it is not known.
    backbone_weights: where the config takes its backbone's weights from ("torchvision://resnet50", "timm/resnet50", a
                URL or a path), and the prefix of their keys; None if from nowhere.
    load_from:  checkpoint of the whole model that the config starts from; None if from none.
    """

    library: str
    path: Path
    model: ConfigDict
    input_spec: InputSpec
    classes: tuple[str, ...] | None
    backbone_weights: tuple[str, str] | None
    load_from: str | None


def load_config(path: Path) -> Any:
    """Run the config at `path` and return it; InputError if it cannot be run or describes no backbone."""
    try:
        with quiet():
            config = Config.fromfile(path)
    except Exception as error:  # a config is a program; anything can come of running it
        if "mmpretrain" in str(error):
            raise InputError(
                f"model.arch: '{path.stem}' takes its backbone from mmpretrain, which cannot be imported "
                f"({error.__cause__ or error}); pip install mmpretrain"
            ) from error
        raise InputError(f"model.arch: the config '{path}' cannot be read: {first_line(error)}") from error
    model = config.get("model")
    if not isinstance(model, dict) or "backbone" not in model:
        raise InputError(f"model.arch: the config '{path}' describes no model with a backbone; give one that does")
    return config


def walk(value: object, visit: Callable[[dict[str, Any]], None]) -> None:
    """Call `visit` with every dict in `value`, from the outside in."""
    if isinstance(value, dict):
        visit(value)
        for below in list(value.values()):
            walk(below, visit)
    elif isinstance(value, list | tuple):
        for below in value:
            walk(below, visit)


def unfreeze(part: dict[str, Any]) -> None:
    """Take out of one part of a model what upstream would freeze when it builds: that is the business of hooks."""
    if "frozen_stages" in part:
        # All backbones of mmdet call "none" -1 but this one.
        part["frozen_stages"] = 0 if part.get("type") == "EfficientNet" else -1
    if part.get("norm_eval"):
        part["norm_eval"] = False
    if part.get("requires_grad") is False:
        part["requires_grad"] = True


def without_pretrained(part: dict[str, Any]) -> None:
    """Take out of one part of a model the weights that upstream would load when it builds."""
    part.pop("pretrained", None)
    init = part.get("init_cfg")
    entries = init if isinstance(init, list | tuple) else [init]
    kept = [entry for entry in entries if isinstance(entry, dict) and "checkpoint" not in entry]
    if init is not None and len(kept) < len(entries):
        part["init_cfg"] = kept or None


def backbone_weights(model: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return what `ModelConfig.backbone_weights` holds; upstream names them with the backbone or with the model."""
    backbone = model["backbone"]
    if is_timm_backbone(model):
        return f"{PREFIX}{backbone['name']}", ""
    inner = backbone.get("backbone_cfg") or {}  # of backbones with one of another kind inside
    for part in (backbone, inner):
        init = part.get("init_cfg")
        entries = init if isinstance(init, list | tuple) else [init]
        for entry in entries:
            if isinstance(entry, dict) and "checkpoint" in entry:  # of the type Pretrained, or of a kind of its own
                return entry["checkpoint"], entry.get("prefix") or ""
    address = backbone.get("pretrained") or inner.get("pretrained") or model.get("pretrained")
    return (address, "") if address else None


def input_spec(
    preprocessor: Mapping[str, Any], *, padding: tuple[float, float, float] | None = None, stretched: bool = False
) -> InputSpec:
    """Turn upstream's pre-processing of BGR images, 0..255, into ours.

    padding: RGB, 0..255, of padding before normalisation; None for the mean, which is a padding with 0 after it.
    """
    swapped = bool(preprocessor.get("bgr_to_rgb"))
    mean = tuple(float(value) for value in preprocessor.get("mean") or (0.0, 0.0, 0.0))
    std = tuple(float(value) for value in preprocessor.get("std") or (1.0, 1.0, 1.0))
    order: Literal["rgb", "bgr"] = "rgb" if swapped else "bgr"
    colour = padding or tuple(mean if order == "rgb" else mean[::-1])
    divisor = preprocessor.get("pad_size_divisor") or preprocessor.get("size_divisor") or 1
    return InputSpec(
        resize="stretch" if stretched else "letterbox",
        place="corner",
        multiple_of=max(32, int(divisor)),
        mean=mean,  # type: ignore[arg-type]
        std=std,  # type: ignore[arg-type]
        channel_order=order,
        value_range=255.0,
        pad_value=tuple(round(value) for value in colour),  # type: ignore[arg-type]
    )


def dataset_classes(config: Mapping[str, Any], datasets: Any) -> tuple[str, ...] | None:
    """Return the names of the classes of the config's own training data; None if they are not known.

    datasets: upstream's registry of datasets.
    """
    dataset = (config.get("train_dataloader") or {}).get("dataset") or {}
    while isinstance(dataset, dict) and ("dataset" in dataset or "datasets" in dataset):
        dataset = dataset.get("dataset") or dataset["datasets"]
        dataset = dataset[0] if isinstance(dataset, list) else dataset
    own = (dataset.get("metainfo") or {}).get("classes")
    kind = datasets.get(dataset["type"]) if isinstance(dataset.get("type"), str) else None
    names = own or (kind.METAINFO.get("classes") if kind is not None else None)
    return tuple(names) if names and not isinstance(names, str) else None


def first_line(error: Exception) -> str:
    """Return the first line of an upstream error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
