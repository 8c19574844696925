"""A trained run as an object that predicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.config.load import read_options
from tlvision.config.resume import read_run_config
from tlvision.config.run_folder import check_classes, read_classes
from tlvision.files.whole import find_folder
from tlvision.plugin import Adapter, BuildSpec, Task, get_plugin
from tlvision.types import ClassMap, InputError, Prediction

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from lightning_fabric import Fabric

    from tlvision.config.schema import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """A model with the weights that a run selected; see `load`."""

    run: Path
    config: Config
    task: Task
    classes: ClassMap
    adapter: Adapter
    fabric: Fabric

    def predict(self, image: str | Path | npt.NDArray[np.uint8]) -> Prediction:
        """Find objects in one image.

        image: the path of a file, or (H, W, 3) uint8 RGB.

        Returns a prediction as numpy: boxes (K, 4) x0 y0 x1 y1 in pixels of the image, scores (K,) 0..1 in
        descending order, labels (K,) that index `classes.names`; for the task "instance" also masks, (K, H, W) uint8 of
        0 and 1.

        Raises InputError where the file cannot be read, ValueError where the array is of another shape or dtype.
        """
        from tlvision.data.images import read_any_image
        from tlvision.training.inference import predict_array

        pixels = read_any_image(image) if isinstance(image, str | Path) else image
        return predict_array(
            self.adapter,
            pixels,
            fabric=self.fabric,
            image_size=self.config.data.image_size,
            window=self.config.evaluate.window,
        )


def load(run: str | Path) -> LoadedModel:
    """Return the model of a run, with the weights of checkpoints/best (of checkpoints/last before there is a best).

    Raises InputError if `run` is not the folder of a run, holds no checkpoint, or has a file that is damaged or does
    not fit the others.

    Example: ``tlvision.load("runs/quickstart").predict("part.jpg")``
    """
    from tlvision.training.checkpoint import MODEL, load_model_strictly
    from tlvision.training.fabric import make_fabric, place

    folder = Path(run)
    if not folder.is_dir():
        raise InputError(f"--run: no folder '{folder}'")
    classes = read_classes(folder)
    config = read_run_config(folder)
    weights = _find_checkpoint(folder) / MODEL
    check_classes(folder, weights.parent, classes)
    plugin = get_plugin(config.model.plugin)
    spec = BuildSpec(
        arch=config.model.arch,
        weights=str(weights),
        classes=classes,
        image_size=config.data.image_size,
        options=read_options(plugin, config.model.options),
    )
    adapter, _ = plugin.build(spec)
    task = plugin.task_of(config.model.arch)
    load_model_strictly(adapter.module, weights)
    fabric = make_fabric(config.train.model_copy(update={"device": _device(config)}))
    place(fabric, adapter.module)
    adapter.module.eval()
    return LoadedModel(run=folder, config=config, task=task, classes=classes, adapter=adapter, fabric=fabric)


def _find_checkpoint(run: Path) -> Path:
    """Return the folder of the best checkpoint, or of the last before there is a best, once it is found whole."""
    from tlvision.training.checkpoint import MODEL
    from tlvision.training.manifest import check_manifest

    try:
        folder, other = find_folder(run / "checkpoints" / "best"), "last"
    except InputError:
        folder, other = find_folder(run / "checkpoints" / "last"), "best"
    remedy = f"Restore it from a copy. If '{run / 'checkpoints' / other}' exists, it can take the place of this folder."
    check_manifest(folder, remedy, (MODEL,), quick=True)
    return folder


def _device(config: Config) -> Any:
    """A run that was trained on a GPU may be used on a machine without one."""
    return "auto" if config.train.device == "cuda" else config.train.device
