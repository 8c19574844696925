"""Predictions as JSON, in the terms of predictions.json and COCO."""

from __future__ import annotations

import base64
import io

import numpy as np
from pydantic import BaseModel, Field

from tlvision.formats.coco import result_rows
from tlvision.formats.label_maps import write_label_map
from tlvision.types import ClassMap, Prediction


class Mask(BaseModel):
    """A mask as COCO's compressed run lengths, which `pycocotools.mask.decode` reads."""

    size: tuple[int, int] = Field(description="height and width in pixels")
    counts: str = Field(description="run lengths of columns, compressed as COCO does")


class FoundObject(BaseModel):
    """An object of an image."""

    category: str = Field(description="name of the class")
    category_id: int = Field(description="id of the class in the training data")
    score: float = Field(ge=0, le=1)
    bbox: tuple[float, float, float, float] = Field(
        description="x and y of the top left corner, width and height, in pixels of the image"
    )
    segmentation: Mask | None = Field(default=None, description="models that find masks")


class PresentClass(BaseModel):
    """A class of a label map."""

    value: int = Field(description="value of its pixels in the PNG")
    category: str = Field(description="name of the class")
    category_id: int = Field(description="id of the class in the training data")
    pixels: int = Field(description="number of its pixels")


class LabelMap(BaseModel):
    """The class of every pixel of an image."""

    png: str = Field(description="base64 of a greyscale PNG with 8 bits, of the size of the image")
    classes: list[PresentClass] = Field(description="the values that occur")


class ImageAnswer(BaseModel):
    """The prediction for one image."""

    name: str = Field(description="file name of the request")
    width: int = Field(description="pixels, after the rotation that EXIF asks for")
    height: int = Field(description="pixels, after the rotation that EXIF asks for")
    objects: list[FoundObject] = Field(description="best first")
    label_map: LabelMap | None = Field(default=None, description="models that classify pixels")


class PredictAnswer(BaseModel):
    """The predictions for the images of a request."""

    model: str = Field(description="name of the run that was exported")
    images: list[ImageAnswer] = Field(description="in the order of the request")


class ErrorAnswer(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="the problem with its value, and what to do")


class HealthAnswer(BaseModel):
    """The state of the server."""

    status: str = Field(description="'ok', or 'failed' if the model does not run any more")
    model: str = Field(description="name of the run that was exported")
    task: str
    classes: list[str]
    version: str = Field(description="of tlvision")


def answer_of(name: str, size: tuple[int, int], found: Prediction, classes: ClassMap) -> ImageAnswer:
    """Return the answer for one image.

    size:  height and width of the image in pixels. found: numpy, in pixels of the image.
    """
    rows, _ = result_rows(1, found, dict(enumerate(classes.source_ids)))
    names = [classes.names[label] for label in found.labels.tolist()]
    objects = [
        FoundObject(
            category=category,
            category_id=row["category_id"],
            score=row["score"],
            bbox=row["bbox"],
            segmentation=row.get("segmentation"),
        )
        for category, row in zip(names, rows, strict=True)
    ]
    label_map = None if found.semantic is None else _label_map(found.semantic, classes)
    return ImageAnswer(name=name, width=size[1], height=size[0], objects=objects, label_map=label_map)


def _label_map(labels: np.ndarray, classes: ClassMap) -> LabelMap:
    file = io.BytesIO()
    write_label_map(file, labels)
    values, counts = np.unique(labels, return_counts=True)
    present = [
        PresentClass(value=value, category=classes.names[value], category_id=classes.source_ids[value], pixels=pixels)
        for value, pixels in zip(values.tolist(), counts.tolist(), strict=True)
    ]
    return LabelMap(png=base64.b64encode(file.getvalue()).decode("ascii"), classes=present)
