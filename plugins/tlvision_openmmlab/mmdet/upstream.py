"""The one place that imports mmdet, so that the import leaves the process as it found it."""

from __future__ import annotations

from tlvision_openmmlab.common.engine import (
    Config,
    ConfigDict,
    DefaultScope,
    InstanceData,
    process_unchanged,
    quiet,
    without_old_style,
)

with process_unchanged():
    from mmdet.models import DeformableDETR
    from mmdet.registry import DATASETS, MODELS
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmdet.version import __version__ as version
    from mmengine.logging import MessageHub

__all__ = [
    "DATASETS",
    "MODELS",
    "BitmapMasks",
    "Config",
    "ConfigDict",
    "DefaultScope",
    "DeformableDETR",
    "DetDataSample",
    "InstanceData",
    "MessageHub",
    "quiet",
    "version",
    "without_old_style",
]
