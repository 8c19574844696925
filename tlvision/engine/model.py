"""Build a model for everything that does not train it, and a trained run as an object that predicts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from tlvision.config.load import read_options
from tlvision.engine.limits import check_limit, predict_spec, tiling
from tlvision.engine.model_hooks import modify_model, refuse_unmerged
from tlvision.engine.operating_point import read_score_map, read_thresholds
from tlvision.engine.resume import read_run_config
from tlvision.engine.run_folder import check_classes, read_classes
from tlvision.evaluation.selection import Selection
from tlvision.files.atomic import find_folder
from tlvision.hooks import Hook, ModelHook
from tlvision.plugin import Adapter, BuildSpec, Plugin, WeightReport, get_plugin
from tlvision.tasks import Task, get_task
from tlvision.types import ClassMap, ClassThresholds, InputError, Pixels, Prediction, Sample, counted, listing

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from lightning_fabric import Fabric
    from PIL.Image import Image

    from tlvision.config.schema import Config
    from tlvision.data.settings import TileSettings
    from tlvision.evaluation.score_map import ScoreMap
    from tlvision.training.settings import TrainSettings

    OneImage = str | Path | Image | npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Model:
    """A model in eval mode on its device; see `open_model`.

    report:      which weights were loaded.
    model_hooks: hooks that have changed its modules, in their order.
    """

    task: Task
    classes: ClassMap
    adapter: Adapter
    fabric: Fabric
    report: WeightReport
    model_hooks: tuple[ModelHook, ...] = ()


def open_model(
    plugin: Plugin,
    spec: BuildSpec,
    settings: TrainSettings,
    hooks: Sequence[Hook] = (),
    *,
    checkpoint: Path | None = None,
) -> Model:
    """Return a model that is not going to be trained: for predictions, measures and exports.

    spec:       the model for the plugin to build.
    settings:   device and precision are used, and the seed of parameters that no weights are loaded for.
    hooks:      the model hooks among them change its modules.
    checkpoint: weights of a run; every key of the file and of the model must fit.

    Raises InputError if the weights hold parameters of a model hook that is not among `hooks`, the device does not
    exist, or the weights do not fit; and any error of the plugin.
    """
    from tlvision.engine.build import seed_everything
    from tlvision.training.checkpoint import load_model_strictly
    from tlvision.training.fabric import make_fabric, place

    if checkpoint is None:
        refuse_unmerged(spec.weights)
        seed_everything(settings.seed)  # not otherwise: whoever loads a run keeps the state of the generators
    adapter, report = plugin.build(spec)
    modify_model(hooks, adapter)
    if checkpoint is not None:
        load_model_strictly(adapter.module, checkpoint)
    fabric = make_fabric(settings)
    place(fabric, adapter.module)
    adapter.module.eval()
    return Model(
        task=get_task(plugin.task_of(spec.arch)),
        classes=spec.classes,
        adapter=adapter,
        fabric=fabric,
        report=report,
        model_hooks=tuple(hook for hook in hooks if isinstance(hook, ModelHook)),
    )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LoadedModel(Model):
    """A model with the weights that a run selected; see `load`.

    thresholds: score of the model from which an object of a class counts, chosen on the validation images of the run.
    score_map:  from the scores of the model to those of `predict`; None if they are the same.
    """

    run: Path
    config: Config
    thresholds: ClassThresholds
    score_map: ScoreMap | None = None

    def __repr__(self) -> str:
        """Return three lines: the model, its classes, its run."""
        model = self.config.model
        size = self.config.data.image_size
        return (
            f"LoadedModel: {model.arch} ({model.plugin}, {self.task.name}), network input {size} px, on "
            f"{self.fabric.device}\n  {counted(len(self.classes), 'class')}: {listing(self.classes.names, 8)}\n  run "
            f"{self.run}"
        )

    @overload
    def predict(self, image: OneImage, *, min_score: float | None = None, device: str | None = None) -> Prediction: ...  # type: ignore[overload-overlap]  # a text is a sequence of texts

    @overload
    def predict(
        self, image: Sequence[OneImage], *, min_score: float | None = None, device: str | None = None
    ) -> list[Prediction]: ...

    def predict(
        self, image: OneImage | Sequence[OneImage], *, min_score: float | None = None, device: str | None = None
    ) -> Prediction | list[Prediction]:
        """Find objects in one image, or in several.

        image:     the path of a file; a PIL image; an array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, whose
                   alpha is dropped, uint8, uint16 (16-bit values as the run reads them) or float 0..1. A list or tuple
                   of these, or an array (N, H, W, 3), gives a list.
        min_score: 0..1; objects with a lower score in the result are left out. None: those whose score of the model is
                   below `thresholds` of their class. 0: none is left out.
        device:    "cpu", "cuda" or "auto": move the model there first; None leaves it where it is.

        Returns a prediction as numpy: boxes (K, 4) x0 y0 x1 y1 in pixels of the image, scores (K,) 0..1 in
        descending order, labels (K,) that index `classes.names`; for tasks with masks also masks, (K, H, W) uint8 of 0
        and 1. A path gives what `tlvision predict` and `tlvision evaluate` find in that file. A large JPEG is
        decoded at reduced size there, so the array of its pixels may give boxes that differ by a fraction of a pixel.

        Raises InputError if the file cannot be read, or the image is of another kind, shape or dtype.
        """
        if min_score is not None and not 0 <= min_score <= 1:
            raise InputError(f"predict: min_score must be a number from 0 to 1, got {min_score}")
        if device is not None:
            move(self, device)
        if isinstance(image, list | tuple) or (hasattr(image, "ndim") and image.ndim == 4):
            return [self.selection.select(self._one(each), min_score) for each in image]  # type: ignore[union-attr]
        return self.selection.select(self._one(image), min_score)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.run.name

    @property
    def bits(self) -> int | None:
        """Bits in use of images with 16-bit values; None if the run says nothing."""
        return self.config.data.bits

    @property
    def selection(self) -> Selection:
        """Which objects count, with which scores."""
        return Selection(self.classes, self.thresholds, self.score_map)

    def predict_files(
        self, samples: Sequence[Sample], *, least: float = 0.0
    ) -> Iterator[tuple[Sample, Prediction | InputError]]:
        """Yield each sample with all that is found in it, or with the reason why its file cannot be decoded.

        least: a score below which objects may be left out; this model gives all.
        """
        from tlvision.inference.predict import predict_files

        yield from predict_files(
            self.adapter,
            samples,
            fabric=self.fabric,
            image_size=self.config.data.image_size,
            window=self.config.evaluate.window,
            tiles=tiling(self.config, self.task),
        )

    def predict_frames(
        self, frames: Iterable[tuple[Sample, Pixels]], *, least: float = 0.0
    ) -> Iterator[tuple[Sample, Pixels, Prediction]]:
        """Yield decoded images with all that is found in them; frames: samples with (H, W, 3) uint8 RGB each."""
        from tlvision.inference.predict import predict_frames

        yield from predict_frames(
            self.adapter,
            frames,
            fabric=self.fabric,
            image_size=self.config.data.image_size,
            window=self.config.evaluate.window,
            tiles=tiling(self.config, self.task),
        )

    def _one(self, image: OneImage) -> Prediction:
        if isinstance(image, str | Path):
            return self._file(Path(image))
        from tlvision.data.images import as_rgb
        from tlvision.inference.predict import predict_array

        return predict_array(
            self.adapter,
            as_rgb(image, bits=self.config.data.bits or 16),
            fabric=self.fabric,
            image_size=self.config.data.image_size,
            window=self.config.evaluate.window,
            tiles=tiling(self.config, self.task),
        )

    def _file(self, path: Path) -> Prediction:
        from tlvision.formats.coco import read_unlabelled

        if not path.exists():
            raise InputError(f"predict: '{path}' does not exist; give the path of an image file")
        ((_, found),) = self.predict_files(read_unlabelled([path], bits=self.bits or 16))
        if isinstance(found, InputError):
            raise found
        return found


def move(model: LoadedModel, device: str) -> None:
    """Move a loaded model to "cpu", "cuda" or "auto"; InputError if there is no such device."""
    from tlvision.training.fabric import make_fabric, place

    fabric = make_fabric(_settings(model.config, device))
    if fabric.device != model.fabric.device:
        place(fabric, model.adapter.module)
        object.__setattr__(model, "fabric", fabric)


def load(
    run: str | Path,
    *,
    device: str | None = None,
    max_detections: int | None = None,
    score_floor: float | None = None,
    tiles: int | None = None,
) -> LoadedModel:
    """Return the model of a run, for `tlvision.load`, which says what the arguments are and what is raised."""
    from tlvision.engine.build import build_hooks
    from tlvision.training.checkpoint import MODEL

    folder = Path(run)
    if not folder.is_dir():
        raise InputError(f"--run: no folder '{folder}'")
    classes = read_classes(folder)
    config = read_run_config(folder, finished=True)
    weights = _find_checkpoint(folder) / MODEL
    check_classes(folder, weights.parent, classes)
    plugin = get_plugin(config.model.plugin)
    task = get_task(plugin.task_of(config.model.arch))
    limits: dict[str, float] = {}
    if max_detections is not None:
        limits["max_detections"] = check_limit(max_detections)
    if score_floor is not None:
        limits["score_floor"] = score_floor
    config = config.model_copy(update={"model": config.model.model_copy(update=limits)})
    if tiles is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"tiles": _tiles(config, tiles)})})
    spec = BuildSpec(
        arch=config.model.arch,
        weights=str(weights),
        classes=classes,
        image_size=config.data.image_size,
        options=read_options(plugin, config.model.options),
        predict=predict_spec(config, task),
    )
    settings = _settings(config, device or _device(config))
    opened = open_model(plugin, spec, settings, build_hooks(config), checkpoint=weights)
    parts = {each.name: getattr(opened, each.name) for each in fields(opened)}
    return LoadedModel(
        run=folder, config=config, thresholds=read_thresholds(folder), score_map=read_score_map(folder), **parts
    )


def _tiles(config: Config, size: int) -> TileSettings:
    from tlvision.data.settings import MAX_SIDE, TileSettings

    if not 0 <= size <= MAX_SIDE:
        raise InputError(f"--tiles must be from 0 to {MAX_SIDE} pixels, got {size}")
    return TileSettings.model_validate(config.data.tiles.model_dump() | {"size": size})


def _find_checkpoint(run: Path) -> Path:
    """Return the folder of the best checkpoint, or of the last before there is a best, once it is found whole."""
    from tlvision.training.checkpoint import MODEL
    from tlvision.training.manifest import check_manifest

    try:
        folder, other = find_folder(run / "checkpoints" / "best"), "last"
    except InputError:
        folder, other = find_folder(run / "checkpoints" / "last"), "best"
    remedy = f"Restore it from a copy. If '{run / 'checkpoints' / other}' exists, it can replace this folder."
    check_manifest(folder, remedy, (MODEL,), quick=True)
    return folder


def _settings(config: Config, device: str) -> TrainSettings:
    if device not in {"auto", "cpu", "cuda"}:
        raise InputError(f"device: expected 'cpu', 'cuda' or 'auto', got '{device}'")
    return config.train.model_copy(update={"device": device})


def _device(config: Config) -> Any:
    """A run that was trained on a GPU may be used on a machine without one."""
    return "auto" if config.train.device == "cuda" else config.train.device
