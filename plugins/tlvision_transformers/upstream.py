"""The one place that imports transformers, and how it is kept quiet."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

with warnings.catch_warnings():  # sympy, which it imports, adds filters
    from transformers import (
        CONFIG_MAPPING,
        AutoConfig,
        AutoModelForObjectDetection,
        AutoModelForSemanticSegmentation,
        AutoModelForUniversalSegmentation,
        ConditionalDetrImageProcessor,
        RTDetrImageProcessor,
    )
    from transformers.backbone_utils import BackboneMixin
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
    from transformers.utils import logging

from tlvision_transformers.zoo import DETECTOR_TYPES, SEGMENTER_TYPES

__all__ = ["CONFIG_MAPPING", "AutoConfig", "BackboneMixin", "auto_model", "image_processor_class", "quiet"]

_PROCESSORS: dict[str, Any] = {
    "rt_detr_v2": RTDetrImageProcessor,
    "d_fine": RTDetrImageProcessor,
    "dab-detr": ConditionalDetrImageProcessor,
}
"""Image processors of the published weights of models that upstream's table has none for."""


def auto_model(model_type: str) -> Any:
    """Return upstream's class that builds models of this type with a head."""
    if model_type in DETECTOR_TYPES:
        return AutoModelForObjectDetection
    return AutoModelForSemanticSegmentation if model_type in SEGMENTER_TYPES else AutoModelForUniversalSegmentation


def image_processor_class(config: Any) -> Any:
    """Return upstream's class that makes images ready for a model of this configuration."""
    if config.model_type in _PROCESSORS:
        return _PROCESSORS[config.model_type]
    classes: Any = IMAGE_PROCESSOR_MAPPING[type(config)]
    return classes["torchvision"]


@contextmanager
def quiet() -> Iterator[None]:
    """Let upstream write errors only, and no progress bars, inside the with-block; warning filters stay as they are."""
    settings: Any = logging
    level, bars = settings.get_verbosity(), settings.is_progress_bar_enabled()
    settings.set_verbosity_error()
    settings.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        settings.set_verbosity(level)
        if bars:
            settings.enable_progress_bar()
