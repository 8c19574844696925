"""The one place that imports mmdet, mmengine and mmcv, so that the import leaves the process as it found it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path


@contextmanager
def quiet() -> Iterator[None]:
    """Keep mmengine from printing what it initialises, and warnings of the old style of the library to itself."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def without_old_style() -> Iterator[None]:
    """Keep to itself that upstream calls torch in ways that are going out of use, which no user can mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        yield


@contextmanager
def _process_unchanged() -> Iterator[None]:
    environment = dict(os.environ)
    try:
        with quiet():
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)


with _process_unchanged():
    import tlvision_openmmlab.mmcv_ops  # noqa: F401  # before mmcv, whose operators need it

    # isort: split
    import mmdet.datasets
    import mmdet.models  # noqa: F401
    from mmdet.registry import DATASETS, MODELS
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmdet.version import __version__ as version
    from mmengine.config import Config, ConfigDict
    from mmengine.registry import DefaultScope
    from mmengine.structures import InstanceData


def _folder_of(package: str) -> str:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed")
    return str(Path(spec.origin).parent)


if find_spec("pkg_resources") is None:
    # mmengine finds the bases of a config that lie in another package ("mmdet::…") through pkg_resources, which
    # setuptools no longer ships.
    import mmengine.config.config as _config

    _config.is_installed = lambda package: find_spec(package) is not None
    _config.get_installed_path = _folder_of

__all__ = [
    "DATASETS",
    "MODELS",
    "BitmapMasks",
    "Config",
    "ConfigDict",
    "DefaultScope",
    "DetDataSample",
    "InstanceData",
    "quiet",
    "version",
    "without_old_style",
]
