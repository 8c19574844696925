"""What a config may say. Strict: an unknown key anywhere is an error."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from tlvision.config.hook_config import Hooks
from tlvision.data.settings import MAX_SIDE, AugmentSettings
from tlvision.files.inputs import path_problem
from tlvision.training.settings import MAX_EPOCHS, MAX_SEED, TrainSettings

MAX_BATCH = 65_536
MAX_RENDERED = 100_000
MAX_WORKERS = 256


def _checked_path(path: str) -> str:
    if problem := path_problem(path):
        raise ValueError(f"expected a path, but it {problem}")
    return path


PathText = Annotated[str, AfterValidator(_checked_path)]


class _Strict(BaseModel):
    """Strict in types too: 64 is a number and "64" is not, true is no number, a whole number may stand for 64.0."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelSettings(_Strict):
    """Which model, and from which weights."""

    plugin: str = Field(max_length=200, description="a model family; `tlvision plugins` lists them")
    arch: str = Field(max_length=200, description="an architecture of the plugin; `tlvision plugins` lists them")
    weights: PathText = Field(
        description="coco, imagenet, pretrained, none, or the path of a weight file; see the plugin"
    )
    rename: dict[str, str | Annotated[list[str], Field(min_length=1)]] = Field(
        {},
        description="{our class: the weights' class} where names differ, so that its rows of the head are taken over; "
        "or a list where several of theirs are one of ours: training starts from the first, zero-shot has all of them",
    )
    options: dict[str, Any] = Field({}, description="what else the plugin lets one choose; `tlvision plugins` lists it")
    max_detections: int | None = Field(
        None, ge=1, le=10_000, description="objects that the model finds in an image at most; null: 300, 100 with masks"
    )
    score_floor: float | None = Field(
        None, ge=0, lt=1, description="objects with a lower score are left out; null: 0.001, or as the model has it"
    )
    nms_iou: float | None = Field(
        None,
        gt=0,
        le=1,
        description="IoU above which the worse of two boxes of a class goes; null: as the model has it",
    )


class DatasetSettings(_Strict):
    """Labelled images: a COCO json and the folder that its file names are relative to, or a folder of label maps."""

    json_: PathText | None = Field(None, alias="json", description="COCO json; with masks, a COCO panoptic json")
    images: PathText = Field(description="folder of the images")
    masks: PathText | None = Field(None, description="folder of PNG label maps, <stem>.png for each image")

    @model_validator(mode="after")
    def _labels(self) -> Self:
        if self.json_ is None and self.masks is None:
            raise ValueError("expected labels: json (a COCO json), or masks (a folder of label maps)")
        return self


class TargetSettings(_Strict):
    """Unlabelled images: of the domain that the model is meant for, or just more of the same."""

    images: PathText = Field(description="folder of the images")
    json_: PathText | None = Field(
        None, alias="json", description="take only the `images` of this json; no label is read"
    )


class BatchSettings(_Strict):
    """What one micro-batch of one process holds."""

    labelled: int = Field(16, ge=1, le=MAX_BATCH, description="labelled images")
    unlabelled: int = Field(0, ge=0, le=MAX_BATCH, description="images of data.target, for hooks that learn from them")


class RenderSettings(_Strict):
    """A dataset that the project renders itself, so that a first run needs no download."""

    scene: Literal["inspection"] = Field("inspection", description="what is rendered")
    domain: Literal["source", "target"] = Field("target", description="source, or shifted target")
    out: PathText = Field(description="folder that gets images/, train.json and val.json if it does not exist yet")
    train: int = Field(40, ge=1, le=MAX_RENDERED, description="training images")
    val: int = Field(60, ge=1, le=MAX_RENDERED, description="validation images")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of the renderer")


class DataSettings(_Strict):
    """Which images, and what is done to them."""

    train: DatasetSettings = Field(description="to train on")
    val: DatasetSettings | None = Field(None, description="to evaluate on; with data.target, labels of the target")
    source_val: DatasetSettings | None = Field(
        None, description="labelled images like those of data.train, where data.val is of another domain"
    )
    oracle: DatasetSettings | None = Field(
        None, description="labelled images of the target, for `tlvision adapt`'s oracle alone; nothing else reads them"
    )
    target: TargetSettings | None = Field(None, description="unlabelled images, for hooks that learn from them")
    classes: list[str] | dict[str, Annotated[int, Field(ge=0, le=255)]] | str | None = Field(
        None,
        min_length=1,
        description="use these classes only, in this order; or a text file with one name a line; or, for label maps, "
        "{name: value in the label maps}",
    )
    exif: Literal["auto", "apply", "ignore"] = Field(
        "auto",
        description="EXIF rotation, where the size does not tell if labels were drawn on the picture as shown (apply) "
        "or as stored (ignore); auto: like the other images",
    )
    bit_depth: int | Literal["auto"] = Field(
        "auto", description="bits in use of images with 16-bit values, 8 to 16; auto: measured on the training images"
    )
    ignore_value: int = Field(255, ge=0, le=255, description="value in label maps for pixels of which nothing is known")
    unlabelled: Literal["background", "ignore"] = Field(
        "background", description="semantic models on a COCO json: what a pixel without an object is"
    )
    render: RenderSettings | None = Field(None, description="render a dataset first")
    image_size: int = Field(640, ge=32, le=MAX_SIDE, description="long side of the network input in pixels")
    canvas: Literal["square", "fitted"] = Field(
        "square", description="training inputs and windows: square; or fitted: as high and wide as their images need"
    )
    batch: BatchSettings = BatchSettings()
    augment: AugmentSettings = AugmentSettings()
    workers: int | Literal["auto"] = Field("auto", description="loading processes; auto: none on a small CPU machine")

    cache: int | Literal["auto"] = Field(
        "auto", description="MiB for decoded images; auto: by the free memory; 0: none"
    )

    @field_validator("bit_depth")
    @classmethod
    def _eight_to_sixteen(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 8 <= value <= 16:
            raise ValueError("expected 'auto' or a number from 8 to 16")
        return value

    @property
    def bits(self) -> int | None:
        """Return the bits in use of images with 16-bit values; None: not measured yet."""
        return None if isinstance(self.bit_depth, str) else self.bit_depth

    @field_validator("workers", "cache")
    @classmethod
    def _not_negative(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError("expected 'auto' or a number from 0 on")
        return value

    @field_validator("workers")
    @classmethod
    def _few_workers(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value > MAX_WORKERS:
            raise ValueError(f"expected 'auto' or a number from 0 to {MAX_WORKERS}")
        return value

    @model_validator(mode="after")
    def _something_to_evaluate_on(self) -> Self:
        if self.val is None and self.source_val is None:
            raise ValueError("expected val (labelled images to evaluate on), or source_val")
        return self

    @property
    def two_domains(self) -> bool:
        """Tell whether metrics have to say of which domain they are."""
        return self.target is not None or self.source_val is not None

    @property
    def evaluated(self) -> DatasetSettings:
        """Return what a run's folder shows predictions and metrics of: val, or where there is none source_val."""
        found = self.val or self.source_val
        assert found is not None
        return found

    @property
    def cache_bytes(self) -> int | None:
        """Return the size of the cache of decoded images in bytes; None lets the memory of the machine decide."""
        return None if self.cache == "auto" else self.cache * 2**20


class EvaluateSettings(_Strict):
    """When to evaluate, and what chooses the best checkpoint."""

    every: int = Field(
        1, ge=1, le=MAX_EPOCHS, description="epochs between evaluations; the last epoch always is evaluated"
    )
    select: str = Field(
        "auto",
        max_length=200,
        description="the metric that selects checkpoints/best; auto: that of the task, with data.target "
        "unlabelled/stability; target/… uses the target's labels",
    )
    window: int = Field(
        0,
        ge=0,
        le=MAX_SIDE,
        description="semantic: slide a window of this side over the image, which overlaps by a third; 0: whole",
    )
    boundary: bool = Field(False, description="semantic: boundary IoU as well")
    max_detections: int = Field(
        100, ge=3, le=10_000, description="detections that count for an image and class; 100 is COCO's number"
    )
    batch: int = Field(
        32, ge=1, le=MAX_BATCH, description="images predicted at once; masks take about 40 MB an image at 640 px"
    )


class RunSettings(_Strict):
    """Where the run goes."""

    out: PathText = Field(description="the run's folder; where it holds a run already, a number is appended")


class Config(_Strict):
    """One run."""

    model: ModelSettings
    data: DataSettings
    train: TrainSettings
    hooks: Hooks = Field((), description="in this order")
    evaluate: EvaluateSettings = EvaluateSettings()
    run: RunSettings

    def hook(self, name: str) -> BaseModel | None:
        """Return the parameters of a hook, or None if the run does not have it."""
        return next((hook.parameters for hook in self.hooks if hook.name == name), None)
