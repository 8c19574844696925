"""The one place that imports mmengine, with the operators that mmcv needs, so that the process stays as it was."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress mmengine's messages on initialisation, and warnings of the library's old style."""
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
    """Hide warnings about deprecated or unusual calls within upstream, which no user can change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        warnings.filterwarnings("ignore", message="When align_corners=")
        yield


@contextmanager
def process_unchanged() -> Iterator[None]:
    """Give the process back the environment that it had before an import, which is quiet."""
    environment = dict(os.environ)
    try:
        with quiet():
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)


with process_unchanged():
    import tlvision_openmmlab.mmcv_ops  # noqa: F401  # before mmcv, whose operators need it

    # isort: split
    from mmengine.config import Config, ConfigDict
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.logging import MessageHub
    from mmengine.registry import DefaultScope
    from mmengine.structures import InstanceData, PixelData


def _spec_of(package: str) -> ModuleSpec | None:
    """Find a package by the name of its distribution or of its module ("mmsegmentation" or "mmseg")."""
    modules = {distribution: module for module, distribution in MODULE2PACKAGE.items()}
    return find_spec(modules.get(package, package))


def _folder_of(package: str) -> str:
    spec = _spec_of(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed")
    return str(Path(spec.origin).parent)


if find_spec("pkg_resources") is None:
    # mmengine finds the bases of a config that lie in another package ("mmdet::…") through pkg_resources, which
    # setuptools no longer ships.
    import mmengine.config.config as _config

    _config.is_installed = lambda package: _spec_of(package) is not None
    _config.get_installed_path = _folder_of

__all__ = [
    "Config",
    "ConfigDict",
    "DefaultScope",
    "InstanceData",
    "MessageHub",
    "PixelData",
    "process_unchanged",
    "quiet",
    "without_old_style",
]
