"""The process around a plugin: light to import, harmless to build, fit for the core's workers."""

from __future__ import annotations

import pickle
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tlvision.conformance.check import check
from tlvision.conformance.checks.tools import same
from tlvision.conformance.fresh import changed_by_building, imported_modules
from tlvision.conformance.overfit import one_image
from tlvision.data.batches import collate
from tlvision.data.dataset import TargetParts
from tlvision.data.settings import InputSettings
from tlvision.data.train_images import TrainImages
from tlvision.formats.coco.rle import mask_to_rle
from tlvision.types import InputSpec, Sample, Target, listing

if TYPE_CHECKING:
    from tlvision.conformance.case import Case
    from tlvision.plugin import Plugin
    from tlvision.synthetic.shapes import Drawing


@check(scope="plugin")
def plugin_describes_itself(case: Case) -> None:
    """The plugin declares its capabilities, upstream and licence correctly."""
    plugin = case.plugin
    names = plugin.architectures()
    assert len(set(names)) == len(names), "architectures() lists a name more than once"
    tasks = {plugin.task_of(name) for name in names}
    assert tasks == set(plugin.tasks), f"tasks is {sorted(plugin.tasks)}, but the architectures do {sorted(tasks)}"
    assert plugin.licence.strip(), "licence is empty; give the SPDX identifier of what a user takes on"
    assert bool(plugin.upstream) == bool(plugin.upstream_versions), (
        f"upstream is '{plugin.upstream}' and upstream_versions '{plugin.upstream_versions}'; give both or neither"
    )
    if plugin.upstream:
        from packaging.specifiers import SpecifierSet

        installed, allowed = _installed(plugin), SpecifierSet(plugin.upstream_versions)
        assert allowed.contains(installed, prereleases=True), (
            f"{plugin.upstream} {installed} is installed, but upstream_versions is '{plugin.upstream_versions}'"
        )


def _installed(plugin: Plugin) -> str:
    try:
        return version(plugin.upstream)
    except PackageNotFoundError:
        raise AssertionError(
            f"upstream is '{plugin.upstream}', and no distribution of that name is installed"
        ) from None


@check(scope="plugin")
def import_is_light(case: Case) -> None:
    """Importing the plugin and listing its architectures imports neither torch nor the upstream."""
    upstream = case.plugin.upstream
    modules = [name for name, owners in packages_distributions().items() if upstream in owners]
    heavy = imported_modules(_origin(case), ("torch", *(modules or filter(None, [upstream]))))
    assert not heavy, f"importing '{_origin(case)}' imports {listing(heavy)}; import it in build()"


@check(scope="plugin")
def building_leaves_the_process_alone(case: Case) -> None:
    """Building a model in a fresh process changes no global state but that of the random generators."""
    changes = changed_by_building(_origin(case), case.arch, case.classes.names, case.image_size)
    assert not changes, f"building changes {listing(changes, 3)}"


def _origin(case: Case) -> str:
    """Return "module:object" of the plugin: as it is known, or where the object is found by its class's module."""
    if case.origin:
        return case.origin
    module = type(case.plugin).__module__
    for name, value in vars(sys.modules[module]).items():
        if value is case.plugin:
            return f"{module}:{name}"
    raise AssertionError(f"the plugin is no object of '{module}'; say with origin='module:object' where it is")


@check()
def input_spec_and_batches_pickle(case: Case) -> None:
    """The input spec, and images and batches made by it, can be sent to and from the workers that load them."""
    adapter, _ = case.build()
    spec = adapter.input_spec
    assert isinstance(spec, InputSpec), f"input_spec is a {type(spec).__name__}, not an InputSpec"
    with tempfile.TemporaryDirectory() as folder:
        sample = _written(one_image(case, adapter).drawing, Path(folder))
        images = TrainImages(
            [sample],
            spec,
            InputSettings(case.image_size),
            num_classes=len(case.classes),
            parts=TargetParts(masks="masks" in case.task.labels),
        )
        try:
            again = pickle.loads(pickle.dumps(images))
            batch = collate([again.draw(position, True) for position in range(2)])
            returned = pickle.loads(pickle.dumps(batch))
        except Exception as error:
            raise AssertionError(
                f"what input_spec goes into cannot be sent to a worker: {type(error).__name__}: {error}"
            ) from error
        assert again.input_spec == spec, "input_spec is another one after a journey to a worker"
        assert same(returned, collate([images.draw(position, True) for position in range(2)])), (
            "a batch is another one when it comes from a worker"
        )


def _written(drawing: Drawing, folder: Path) -> Sample:
    height, width = drawing.image.shape[:2]
    cv2.imwrite(str(folder / "one.png"), drawing.image[..., ::-1])
    return Sample(
        image_id=1,
        path=folder / "one.png",
        width=width,
        height=height,
        target=Target(boxes=drawing.boxes, labels=drawing.labels, crowd=np.zeros(len(drawing.labels), bool)),
        segments=tuple(mask_to_rle(mask) for mask in drawing.masks),
    )
