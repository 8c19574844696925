"""A toy bundle with a reference, and photos of its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlvision.runtime.model import RuntimeModel
from toy_bundle import photos, toy_bundle


@pytest.fixture(scope="package")
def same_place(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """80 photos of one place."""
    return photos(tmp_path_factory.mktemp("photos"), 80)


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory, same_place: list[Path]) -> RuntimeModel:
    """The model of a bundle whose reference is half of those photos."""
    return toy_bundle(tmp_path_factory.mktemp("bundle") / "toy", images=same_place[:40])
