"""The one place that imports ultralytics, so that the import leaves the process as it found it.

What `import ultralytics` (8.4) changes, found by comparing before and after: OMP_NUM_THREADS and four other environment
variables (which dataloader workers and torchrun's processes inherit), the print options of numpy and torch, OpenCV's
thread count, `torch.save` and `PIL.Image.open`, six warning filters; it asks a name server whether it is online and
greets on standard output. All of it is put back or kept from happening here. One thing is left to it: the settings file
that it keeps in the user's configuration folder ($YOLO_CONFIG_DIR), because it says where that user's weights lie.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from PIL import Image


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ultralytics' logger from printing, by a filter on this logger alone."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("ultralytics")
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


@contextmanager
def _process_unchanged() -> Iterator[None]:
    environment, save, open_image = dict(os.environ), torch.save, Image.open
    numpy_options, threads = np.get_printoptions(), cv2.getNumThreads()
    # torch has no getter for its print options; its own module holds them.
    torch_options = vars(torch._tensor_str.PRINT_OPTS).copy()
    # Read while importing: without it two host names are looked up, which takes long behind a firewall.
    os.environ["YOLO_OFFLINE"] = "true"
    try:
        with quiet(), warnings.catch_warnings():
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        torch.save, Image.open = save, open_image
        np.set_printoptions(**numpy_options)
        cv2.setNumThreads(threads)
        vars(torch._tensor_str.PRINT_OPTS).update(torch_options)


with _process_unchanged():
    # ultralytics takes torchvision's kernel for non-maximum suppression only where it is imported already.
    import torchvision  # noqa: F401
    from ultralytics import __version__ as version
    from ultralytics.nn.tasks import DetectionModel, SegmentationModel
    from ultralytics.utils import DEFAULT_CFG, ROOT, SETTINGS
    from ultralytics.utils.downloads import attempt_download_asset
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import process_mask_native

__all__ = [
    "DEFAULT_CFG",
    "ROOT",
    "SETTINGS",
    "DetectionModel",
    "SegmentationModel",
    "attempt_download_asset",
    "non_max_suppression",
    "process_mask_native",
    "quiet",
    "version",
]
