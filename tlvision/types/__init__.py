"""Small value types that check themselves. A leaf: imports nothing of tlvision and never torch."""

from tlvision.types.aliases import Json, Pixels
from tlvision.types.arrays import Array, check_array
from tlvision.types.class_changes import ClassChanges
from tlvision.types.class_map import ClassMap
from tlvision.types.dataset import Dataset
from tlvision.types.errors import InputError, RunError, TlvisionError, counted, listing, nearest
from tlvision.types.input_spec import InputSpec
from tlvision.types.nested import leaves
from tlvision.types.prediction import Prediction
from tlvision.types.sample import ImageFile, LabelMapFile, Polygons, Rle, Sample, VideoFrame
from tlvision.types.target import IGNORE_INDEX, Target, empty_target
from tlvision.types.thresholds import ClassThresholds

__all__ = [
    "IGNORE_INDEX",
    "Array",
    "ClassChanges",
    "ClassMap",
    "ClassThresholds",
    "Dataset",
    "ImageFile",
    "InputError",
    "InputSpec",
    "Json",
    "LabelMapFile",
    "Pixels",
    "Polygons",
    "Prediction",
    "Rle",
    "RunError",
    "Sample",
    "Target",
    "TlvisionError",
    "VideoFrame",
    "check_array",
    "counted",
    "empty_target",
    "leaves",
    "listing",
    "nearest",
]
