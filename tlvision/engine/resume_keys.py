"""Config keys that may differ between a run and its continuation, each with the reason; see docs/resume.md."""

from __future__ import annotations

from typing import Any

from tlvision.config.hook_config import all_hooks
from tlvision.config.schema import Config
from tlvision.hooks import ModelHook
from tlvision.hooks.registry import ALWAYS, hook_class
from tlvision.types import leaves

MAY_CHANGE = {
    "run.out": "the run stays in the folder that --resume names",
    "run.report": "it only decides whether pictures and a report are written",
    "evaluate.operating_point": "thresholds are chosen at the end of the run",
    "evaluate.calibration": "the map of the scores is fitted at the end of the run",
    "model.weights": "on resume the weights come from the checkpoint",
    "data.train.json": "a path; the content is compared",
    "data.train.images": "a path; names and sizes of the images are compared",
    "data.train.masks": "a path; the content is compared",
    "data.val.json": "a path; the content is compared",
    "data.val.images": "a path; names and sizes of the images are compared",
    "data.val.masks": "a path; the content is compared",
    "data.source_val.json": "a path; the content is compared",
    "data.source_val.images": "a path; names and sizes of the images are compared",
    "data.source_val.masks": "a path; the content is compared",
    "data.target.json": "a path; names and sizes of the images are compared",
    "data.target.images": "a path; names and sizes of the images are compared",
    "data.oracle": "only tlvision adapt reads it",
    "data.render.out": "a path; the content is compared",
    "data.workers": "the order of images does not depend on it",
    "data.cache": "decoded images are the same with and without it",
    "train.epochs": "a run may get longer; the learning rate follows the new length",
    "train.device": "another device differs in the last bits, which is noted",
    "train.verify": "it checks and changes nothing",
    "hooks.log": "it only shows and writes",
    "hooks.mlflow": "it only sends records",
    "hooks.wandb": "it only sends records",
    "hooks.checkpoint": "it only decides when checkpoints are written",
}
"""Keys that may be edited in config.yaml before --resume. They do not change the result, or are compared otherwise."""

CANNOT_CHANGE = {
    "model.plugin": "the checkpoint holds the weights of this model",
    "model.arch": "the checkpoint holds the weights of this model",
    "model.options": "the checkpoint holds the weights of this model",
    "model.rename": "it has been applied to the head when the run started",
    "data.classes": "the head has one row for each class",
    "data.unlabelled": "it decides whether there is a class for the background",
    "train.optimizer": "the state in the checkpoint belongs to this optimizer",
    "model.max_detections": "the best checkpoint so far was selected with it",
    "model.score_floor": "the best checkpoint so far was selected with it",
    "model.nms_iou": "the best checkpoint so far was selected with it",
    "evaluate.window": "the best checkpoint so far was selected with it",
    "evaluate.max_detections": "the best checkpoint so far was selected with it",
}
"""Keys that not even --set can change on resume. Every other key can be changed by --set, and is recorded."""

PATHS = {key for key, reason in MAY_CHANGE.items() if reason.startswith("a path")}


def flatten(config: Config) -> dict[str, Any]:
    """Return a config as {dotted key: value}, defaults of hooks filled in.

    Hooks are keyed by their name: "hooks.ema.decay". The order of those that are not part of every run is "hooks".
    """
    values = config.model_dump(mode="json", by_alias=True)
    del values["hooks"]
    flat = dict(leaves(values))
    names = []
    for hook in all_hooks(config.hooks):
        flat |= dict(leaves(hook.parameters.model_dump(mode="json"), f"hooks.{hook.name}"))
        if hook.name not in ALWAYS:
            names.append(hook.name)
            flat[f"hooks.{hook.name}"] = "present"
    return {**flat, "hooks": names}


def differences(before: Config, after: Config) -> dict[str, tuple[Any, Any]]:
    """Return {key: (old, new)} of all keys that differ; None if one side does not have the key.

    A section that only one side has is one difference for each of its keys, but a hook is one in all.
    """
    old, new = flatten(before), flatten(after)
    found = {
        key: (old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) or type(old.get(key)) is not type(new.get(key))
    }
    if sorted(old["hooks"]) != sorted(new["hooks"]):
        found.pop("hooks")  # said by the hooks that came or went
    changed = {key for key in found if key.startswith("hooks.") and "present" in found[key]}
    return {key: pair for key, pair in found.items() if not any(key.startswith(f"{hook}.") for hook in changed)}


def may_change(key: str, old: Any, new: Any) -> bool:
    """Return whether a key may be edited freely; a path only if it stays a path."""
    match = next((free for free in MAY_CHANGE if key == free or key.startswith(f"{free}.")), None)
    return match is not None and (match not in PATHS or (old is not None and new is not None))


def why_not(key: str) -> str | None:
    """Return why a key can never change on resume, or None if --set can change it."""
    section, _, rest = key.partition(".")
    if section == "hooks" and rest and issubclass(hook_class(rest.partition(".")[0]), ModelHook):
        return "the checkpoint holds the weights of the modules that this hook adds"
    return next((why for fixed, why in CANNOT_CHANGE.items() if key == fixed or key.startswith(f"{fixed}.")), None)


def covers(override: str, key: str) -> bool:
    """Return whether `--set override=…` decides `key`.

    >>> covers("hooks", "hooks.ema.decay"), covers("train.lr", "train.lr"), covers("train.lr", "train.seed")
    (True, True, False)
    """
    return key == override or key.startswith(f"{override}.") or override.startswith(f"{key}.")
