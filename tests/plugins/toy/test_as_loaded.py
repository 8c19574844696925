"""The model that comparisons with upstream use is whole; those need real weights, and are skipped without them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tlvision.plugin import BuildSpec, get_plugin
from tlvision.types import ClassMap


def test_a_built_model_predicts_every_object_as_a_loaded_one(as_loaded: Any) -> None:
    classes = ClassMap.from_names(("dark", "light"))
    spec = BuildSpec(arch="tiny_detector", weights="none", classes=classes, image_size=64)
    model = as_loaded(get_plugin("toy").build(spec), "toy", "tiny_detector", classes, 64)
    image = np.zeros((64, 64, 3), np.uint8)
    found = model.predict(image)
    assert len(found) == len(model.predict(image, min_score=0)) > 0
