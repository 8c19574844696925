"""Schema of a config. An unknown key is an error. `tlvision config-reference` prints it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from tlvision.config.hook_config import Hooks
from tlvision.data.settings import MAX_SEED, MAX_SIDE, AugmentSettings, SamplingSettings, SubsetSettings, TileSettings
from tlvision.files.inputs import path_problem
from tlvision.training.settings import MAX_EPOCHS, TrainSettings

MAX_BATCH = 65_536
MAX_RENDERED = 100_000
MAX_WORKERS = 256


def _checked_path(path: str) -> str:
    if problem := path_problem(path):
        raise ValueError(f"expected a path, but it {problem}")
    return path


PathText = Annotated[str, AfterValidator(_checked_path)]


class _Strict(BaseModel):
    """Base of all sections: unknown keys and wrong types are errors; an integer is accepted for a float."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelSettings(_Strict):
    """The model and the weights that it starts from."""

    plugin: str = Field(max_length=200, description="Model family. `tlvision plugins` lists them.")
    arch: str = Field(max_length=200, description="Architecture of the plugin. `tlvision plugins` lists them.")
    weights: PathText = Field(
        description="`coco`, `imagenet`, `pretrained`, `none`, or the path of a weight file; see the plugin."
    )
    rename: dict[str, str | Annotated[list[str], Field(min_length=1)]] = Field(
        {},
        description="Class names of the weights, if they differ: `{class: class of the weights}`. Rows of the head are "
        "copied by these names. With a list, training starts from the first class and zero-shot merges all of them.",
    )
    options: dict[str, Any] = Field({}, description="Options of the plugin. `tlvision plugins` lists them.")
    max_detections: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Maximum number of predicted objects of an image. null: 300, or 100 with masks.",
    )
    score_floor: float | None = Field(
        None, ge=0, lt=1, description="Objects with a lower score are removed. null: 0.001, or the model's own value."
    )
    nms_iou: float | None = Field(
        None,
        gt=0,
        le=1,
        description="IoU threshold of non-maximum suppression within a class. null: the model's own value.",
    )


_Byte = Annotated[int, Field(ge=0, le=255)]


def _kind_of_value(given: object) -> str:
    return "list[value]" if isinstance(given, list) else "int"


PixelValue = Annotated[
    Annotated[_Byte, Tag("int")] | Annotated[list[_Byte], Field(min_length=3, max_length=3), Tag("list[value]")],
    Discriminator(_kind_of_value),
]
"""A value in label maps: 0..255, or of label maps in colour [red, green, blue]."""


def _kind_of_classes(given: object) -> str:
    """Return the branch of `data.classes` that is meant, so that errors are about that one."""
    if not isinstance(given, dict):
        return "list[name]" if isinstance(given, list) else "str" if isinstance(given, str) else "dict[changes]"
    values = given.values()
    changes = ClassSettings.model_fields.keys() & given.keys() or any(isinstance(value, dict) for value in values)
    return "dict[changes]" if changes else "dict[value]"


def _kind_of_names(given: object) -> str:
    return "list[name]" if isinstance(given, list) else "dict[value]" if isinstance(given, dict) else "str"


_Names = (
    Annotated[Annotated[list[str], Field(min_length=1)], Tag("list[name]")]
    | Annotated[Annotated[dict[str, PixelValue], Field(min_length=1)], Tag("dict[value]")]
    | Annotated[Annotated[str, Field(min_length=1)], Tag("str")]
)
ClassNames = Annotated[_Names, Discriminator(_kind_of_names)]


class ClassSettings(_Strict):
    """Changes from the classes of the files to those of the run, the same for all datasets of the run.

    `rename` and `merge` come first; a class that neither names keeps its name. Predictions have the ids of the files: a
    merged class has the id of the first of its classes that a file has.
    """

    names: ClassNames | None = Field(
        None, description="Label maps: their classes, as `data.classes` has them without changes."
    )
    rename: dict[str, str] = Field({}, description="`{name in the files: name in the run}`.")
    merge: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(
        {}, description="`{name in the run: [names in the files]}`."
    )
    drop: list[str] = Field([], description="Classes of the files whose labels are left out. The images stay.")
    only: list[str] | None = Field(
        None, min_length=1, description="Classes to use, in this order, by their names in the run. null: all."
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        named = [*self.rename, *(name for names in self.merge.values() for name in names), *self.drop]
        if twice := sorted({name for name in named if named.count(name) > 1}):
            raise ValueError(f"'{twice[0]}' is named more than once; say one thing of each class of the files")
        made = [*self.rename.values(), *self.merge]
        if twice := sorted({name for name in made if made.count(name) > 1}):
            raise ValueError(f"two classes would be '{twice[0]}'; to join classes, list them in merge")
        if self.only is not None and self.drop:
            raise ValueError("give only or drop, not both: only names what is kept")
        return self


class DatasetSettings(_Strict):
    """Labelled images: a folder of images with a COCO json, or with a folder of label maps."""

    json_: PathText | None = Field(
        None,
        alias="json",
        description="COCO json, or labels of another tool, a file or a folder "
        "(docs/label-formats.md). With `masks`: COCO panoptic json.",
    )
    images: PathText = Field(
        "",
        description="Folder of the images. File names in the json are relative to it. Labels of other tools may say "
        "themselves where the images are.",
    )
    masks: PathText | None = Field(
        None,
        description="Folder of PNG label maps, `STEM.png` for each image; or a pattern of masks of single "
        "classes, such as `masks/{class}/{stem}.png` (docs/label-formats.md).",
    )
    subset: SubsetSettings | None = Field(None, description="Use a part of the images. null: all of them.")

    @model_validator(mode="after")
    def _labels(self) -> Self:
        if self.json_ is None and self.masks is None:
            raise ValueError("expected labels: json (a COCO json), or masks (a folder of label maps)")
        if not self.images and (self.masks is not None or str(self.json_).lower().endswith(".json")):
            raise ValueError("images is missing: the folder of the images")
        return self


class TargetSettings(_Strict):
    """Unlabelled images: of the target domain, or of the same domain (semi-supervised training)."""

    images: PathText = Field(description="Folder of the images.")
    json_: PathText | None = Field(
        None, alias="json", description="Use only the `images` of this json. Labels are not read."
    )


class BatchSettings(_Strict):
    """Contents of one micro-batch of one process.

    One optimizer step takes `data.batch.labelled` x `train.accumulate` x (number of processes) images. It may take each
    training image at most 32 times: `data.batch.labelled: 10000` with 8 images is an error that states both numbers.
    The same limit holds for `data.batch.unlabelled` and the images of `data.target`.
    """

    labelled: int = Field(16, ge=1, le=MAX_BATCH, description="Number of labelled images.")
    unlabelled: int = Field(0, ge=0, le=MAX_BATCH, description="Number of images of `data.target`.")


class RenderSettings(_Strict):
    """A synthetic dataset, rendered before the run if it does not exist. A first run needs no download."""

    scene: Literal["inspection"] = Field("inspection", description="Kind of scene.")
    domain: Literal["source", "target"] = Field(
        "target", description="Source domain, or target domain with a distribution shift."
    )
    out: PathText = Field(description="Folder for images/, train.json and val.json.")
    train: int = Field(40, ge=1, le=MAX_RENDERED, description="Number of training images.")
    val: int = Field(60, ge=1, le=MAX_RENDERED, description="Number of validation images.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the renderer.")


class DataSettings(_Strict):
    """Images, labels, and how they become batches.

    A relative path means a file next to the config that names it, or else a file in the current folder.
    """

    train: DatasetSettings = Field(description="Training images.")
    val: DatasetSettings | None = Field(
        None, description="Validation images. With `data.target`: labelled images of the target."
    )
    source_val: DatasetSettings | None = Field(
        None, description="Validation images of the source, if `data.val` is of another domain."
    )
    oracle: DatasetSettings | None = Field(
        None, description="Labelled images of the target. Only the oracle of `tlvision adapt` reads them."
    )
    target: TargetSettings | None = Field(None, description="Unlabelled images, for hooks that train on them.")
    classes: (
        Annotated[_Names | Annotated[ClassSettings, Tag("dict[changes]")], Discriminator(_kind_of_classes)] | None
    ) = Field(
        None,
        description="Classes to use, in this order; or a text file with one name per line; or, for label maps, "
        "`{name: value or colour in the label maps}`; or `{rename: …, merge: …, drop: …, only: …}`, which changes "
        "the classes of the files. null: all classes of the json.",
    )
    exif: Literal["auto", "apply", "ignore"] = Field(
        "auto",
        description="Whether labels were drawn on images as shown (`apply`) or as stored (`ignore`), if the image size "
        "does not decide it. auto: like the other images.",
    )
    bit_depth: int | Literal["auto"] = Field(
        "auto", description="Used bits of images with 16-bit values, 8 to 16. auto: measured on the training images."
    )
    ignore_value: PixelValue = Field(255, description="Value, or colour, of unlabelled pixels in label maps.")
    unlabelled: Literal["background", "ignore"] = Field(
        "background", description="Semantic models on a COCO json: class of pixels without an object."
    )
    render: RenderSettings | None = Field(None, description="Render a synthetic dataset before the run.")
    image_size: int = Field(640, ge=32, le=MAX_SIDE, description="Long side of the network input (pixels).")
    canvas: Literal["square", "fitted"] = Field(
        "square", description="Shape of training inputs. `fitted`: as high and wide as the images of the batch need."
    )
    batch: BatchSettings = Field(BatchSettings(), description="Size of micro-batches.")
    tiles: TileSettings = Field(TileSettings(), description="Windows of large images.")
    sampling: SamplingSettings = Field(SamplingSettings(), description="How often each training image comes.")
    augment: AugmentSettings = Field(AugmentSettings(), description="Augmentation of training images.")
    workers: int | Literal["auto"] = Field(
        "auto", description="Loading processes, at most 256. auto: none on a small CPU machine."
    )

    cache: int | Literal["auto"] = Field(
        "auto", description="Memory for decoded images (MiB). auto: a part of the free memory. 0: none."
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
        """Return whether metric names need a domain."""
        return self.target is not None or self.source_val is not None

    @property
    def evaluated(self) -> DatasetSettings:
        """Return the dataset of a run's predictions and metrics: val, or source_val if there is no val."""
        found = self.val or self.source_val
        assert found is not None
        return found

    @property
    def cache_bytes(self) -> int | None:
        """Return the size of the cache of decoded images in bytes; None lets the memory of the machine decide."""
        return None if self.cache == "auto" else self.cache * 2**20


def _checked_rule(value: str | dict[str, float]) -> str | dict[str, float]:
    named = isinstance(value, dict) and len(value) == 1 and set(value) <= {"precision", "recall"}
    if value != "f1" and not (named and all(0 < number <= 1 for number in value.values())):  # type: ignore[union-attr]
        raise ValueError(f"expected f1, {{precision: 0.9}} or {{recall: 0.95}} with a number up to 1, got {value!r}")
    return value


class EvaluateSettings(_Strict):
    """Evaluation during training, and checkpoint selection."""

    every: int = Field(
        1, ge=1, le=MAX_EPOCHS, description="Epochs between evaluations. The last epoch is always evaluated."
    )
    select: str = Field(
        "auto",
        max_length=200,
        description="Metric that selects checkpoints/best. auto: the main metric of the task, or with `data.target` "
        "`unlabelled/stability`. Metrics that begin with `target/` use labels of the target.",
    )
    window: int = Field(
        0,
        ge=0,
        le=MAX_SIDE,
        description="Semantic models: side of a sliding window with an overlap of a third (pixels). 0: whole images.",
    )
    boundary: bool = Field(False, description="Semantic models: also measure boundary IoU.")
    max_detections: int = Field(
        100, ge=3, le=10_000, description="Detections that count for an image and class. COCO's value is 100."
    )
    batch: int = Field(
        32, ge=1, le=MAX_BATCH, description="Images in a batch. Masks take about 40 MB per image at 640 px."
    )
    operating_point: Annotated[str | dict[str, float], AfterValidator(_checked_rule)] = Field(
        "f1",
        description="How the score threshold of each class is chosen on the validation images: `f1` (the best F1), "
        "`{precision: 0.9}` (at least this precision) or `{recall: 0.95}` (at least this recall). They are written to "
        "thresholds.json, and predictions use them.",
    )
    calibration: Literal["none", "temperature", "isotonic"] = Field(
        "none",
        description="Fit a map from score to the share of right detections on half of the validation images. It is "
        "kept in calibration.json, and predictions use it, if the calibration error falls on the other half.",
    )


class RunSettings(_Strict):
    """Output of the run."""

    out: PathText = Field(description="Folder of the run. If it holds a run already, a number is appended.")
    report: bool = Field(True, description="Draw pictures and write report.html at the end. Sweeps may leave it out.")


class Config(_Strict):
    """One run. A file may also have the keys `base` and `when`, which are resolved before the schema is checked.

    Configs are YAML 1.2. Only `true` and `false` are booleans: `off`, `on`, `yes` and `no` are texts, as are dates,
    `12:30` and `010`. Types are strict: `"64"` is not a number, `true` is not a number, `1.0` is not an integer. An
    integer is accepted for a float (`lr: 1`). `.inf` and `.nan` are errors.

    A config file has at most 256 KiB, 10,000 values with aliases expanded, and 50 levels. A path is not empty, has no
    NUL character, and has at most 4,096 bytes, 255 for each part.
    """

    model: ModelSettings = Field(description="Model and start weights.")
    data: DataSettings = Field(description="Images and labels.")
    train: TrainSettings = Field(description="Optimization.")
    hooks: Hooks = Field((), description="Hooks with their parameters, in order. `tlvision hooks` lists them.")
    evaluate: EvaluateSettings = Field(EvaluateSettings(), description="Evaluation and checkpoint selection.")
    run: RunSettings = Field(description="Output.")

    def hook(self, name: str) -> BaseModel | None:
        """Return the parameters of a hook, or None if the run does not have it."""
        return next((hook.parameters for hook in self.hooks if hook.name == name), None)
