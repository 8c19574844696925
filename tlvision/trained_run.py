"""A trained run as an object: predict, draw, evaluate and export from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from pydantic import ValidationError

from tlvision.config.errors import sentences
from tlvision.config.schema import Config, DatasetSettings
from tlvision.data.images import as_rgb, read_image
from tlvision.engine.evaluate import EvaluateResult, evaluate_model
from tlvision.engine.model import LoadedModel
from tlvision.engine.model import load as load_model
from tlvision.export.export import ExportResult, export_run
from tlvision.formats.coco import read_unlabelled
from tlvision.report import draw_prediction
from tlvision.runtime.bundle import is_bundle
from tlvision.tasks import Task
from tlvision.types import ClassMap, ClassThresholds, InputError, Pixels, Prediction

if TYPE_CHECKING:
    from PIL.Image import Image

    from tlvision.engine.model import OneImage
    from tlvision.plugin import Adapter


@dataclass(frozen=True, slots=True, repr=False)
class TrainedRun:
    """A trained run; see `tlvision.load`.

    model: its network with the selected weights, and how images reach it. Other attributes are short for its parts.
    """

    model: LoadedModel

    def __repr__(self) -> str:
        """Return three lines: the model, its classes, its run."""
        return repr(self.model).replace(LoadedModel.__name__, type(self).__name__, 1)

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.model.run

    @property
    def task(self) -> Task:
        """The task of the model: what it finds, and by which metrics it is measured."""
        return self.model.task

    @property
    def config(self) -> Config:
        """The config of the run, with every default written out."""
        return self.model.config

    @property
    def classes(self) -> ClassMap:
        """Names of the classes, in the order of the labels of predictions, and their ids in the training data."""
        return self.model.classes

    @property
    def thresholds(self) -> ClassThresholds:
        """Score of the model from which an object of a class counts."""
        return self.model.thresholds

    @property
    def adapter(self) -> Adapter:
        """The network behind the interface that all model families have; `adapter.module` is the torch module."""
        return self.model.adapter

    @overload
    def predict(self, image: OneImage, *, min_score: float | None = None, device: str | None = None) -> Prediction: ...  # type: ignore[overload-overlap]  # a text is a sequence of texts

    @overload
    def predict(
        self, image: Sequence[OneImage], *, min_score: float | None = None, device: str | None = None
    ) -> list[Prediction]: ...

    def predict(
        self, image: OneImage | Sequence[OneImage], *, min_score: float | None = None, device: str | None = None
    ) -> Prediction | list[Prediction]:
        """Find objects in one image, or in several; arguments, results and errors as for `LoadedModel.predict`."""
        return self.model.predict(image, min_score=min_score, device=device)

    def draw(self, image: OneImage, prediction: Prediction | None = None) -> Image:
        """Return an image with what is found in it: boxes, masks or a label map.

        image:      as for `predict`.
        prediction: what `predict` returned for this image; None: predict now. All its objects are drawn.

        Returns a PIL picture of the size of the image. One with a long side under 320 pixels is enlarged by a whole
        factor, and a label map gets a legend below.

        Raises InputError as `predict` does.
        """
        from PIL import Image as PillowImage

        found = self.model.predict(image) if prediction is None else prediction
        picture = draw_prediction(self._pixels(image), found, self.classes.names, min_score=0)
        return PillowImage.fromarray(picture)

    def evaluate(self, data: str | Path | Mapping[str, Any] | None = None) -> EvaluateResult:
        """Measure the run on its own validation data, or on other labelled images.

        data: None for the run's own. A mapping with the keys of `data.val` in a config, such as {"json": "new.json",
              "images": "photos"} or {"images": "photos", "masks": "label_maps"}. Or the path of labels that say where
              their images are, such as the data.yaml of a YOLO export (docs/label-formats.md).

        Returns the metrics, and the folder that now holds them with the predictions; printing it shows the table.

        Raises InputError if the data cannot be read or have classes that the run lacks.

        Example: ``tlvision.load("runs/quickstart").evaluate({"json": "new.json", "images": "photos"})``
        """
        return evaluate_model(self.model, None if data is None else _dataset(data))

    def export(self, out: str | Path, *, graph_format: str = "onnx", fixed: bool = False) -> ExportResult:
        """Write the run as a bundle that predicts without torch, and prove that it predicts the same.

        Arguments, result and errors are as for `tlvision.export.export.export_run`. The bundle has the settings of the
        run's config, also if it was loaded with others.

        Example: ``tlvision.load("runs/quickstart").export("bundle")``
        """
        return export_run(self.folder, Path(out), graph_format=graph_format, fixed=fixed)

    def _pixels(self, image: OneImage) -> Pixels:
        bits = self.model.bits or 16
        if not isinstance(image, str | Path):
            return as_rgb(image, bits=bits)
        (sample,) = read_unlabelled([Path(image)], bits=bits)
        return read_image(sample.path, sample.width, sample.height, sample.exif, bits=sample.bits)[0]


def load(
    run: str | Path,
    *,
    device: str | None = None,
    max_detections: int | None = None,
    score_floor: float | None = None,
    tiles: int | None = None,
) -> TrainedRun:
    """Return a trained run with the weights of checkpoints/best (of checkpoints/last before there is a best).

    device:         "cpu", "cuda" or "auto"; None as the run was trained, without a GPU on the CPU.
    max_detections: objects of an image at most; None for the limit of the run.
    score_floor:    0..1, objects with a lower score are not predicted; None for the floor of the run.
    tiles:          side in pixels of the tiles that larger images are cut into, 0 for whole images; None as in the run.

    Raises InputError if `run` is not the folder of a run, holds no checkpoint, or has a file that is damaged or does
    not fit the others.

    Example: ``tlvision.load("runs/quickstart").predict("part.jpg")``
    """
    if is_bundle(Path(run)):
        raise InputError(f"load: '{run}' is an exported bundle, not a run. Use tlvision.runtime.load('{run}')")
    return TrainedRun(
        load_model(run, device=device, max_detections=max_detections, score_floor=score_floor, tiles=tiles)
    )


def _dataset(data: str | Path | Mapping[str, Any]) -> DatasetSettings:
    values = {"json": str(data)} if isinstance(data, str | Path) else {k: _text(v) for k, v in data.items()}
    try:
        return DatasetSettings.model_validate(values)
    except ValidationError as error:
        raise InputError("evaluate: " + "; ".join(sentences(error, DatasetSettings, "data"))) from None


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
