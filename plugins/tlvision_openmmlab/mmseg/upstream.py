"""The one place that imports mmseg, so that the import leaves the process as it found it."""

from __future__ import annotations

from tlvision_openmmlab.common.engine import process_unchanged

with process_unchanged():
    import mmseg.datasets
    import mmseg.models  # noqa: F401
    from mmseg.datasets.transforms import GenerateEdge
    from mmseg.registry import DATASETS, MODELS
    from mmseg.structures import SegDataSample
    from mmseg.version import __version__ as version

__all__ = ["DATASETS", "MODELS", "GenerateEdge", "SegDataSample", "version"]
