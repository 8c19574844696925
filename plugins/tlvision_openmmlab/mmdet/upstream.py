"""The one place that imports mmdet, so that the import leaves the process as it found it."""

from __future__ import annotations

from tlvision_openmmlab.common.engine import process_unchanged

with process_unchanged():
    from mmdet.models import DeformableDETR, GFLHead, SingleStageDetector, YOLOXHead
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
    from mmdet.models.utils import select_single_mlvl
    from mmdet.registry import DATASETS, MODELS
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmdet.version import __version__ as version

__all__ = [
    "DATASETS",
    "MODELS",
    "BaseDenseHead",
    "BitmapMasks",
    "DeformableDETR",
    "DetDataSample",
    "GFLHead",
    "SingleStageDetector",
    "YOLOXHead",
    "select_single_mlvl",
    "version",
]
