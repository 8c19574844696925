"""From a config to the parts of a run: data, classes, model, hooks, plan. Nothing is trained here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.config.hook_config import all_hooks
from tlvision.config.load import read_options
from tlvision.config.schema import Config
from tlvision.engine.augment_notes import augment_notes
from tlvision.engine.check_data import check_images, check_overlap, check_unlabelled_overlap
from tlvision.engine.class_mapping import pretrained_classes, trained_classes
from tlvision.engine.compatibility import (
    check_keys,
    check_needs,
    check_packages,
    check_pairing,
    check_step_size,
    check_taps,
    check_unlabelled,
    unused_pseudo_labels,
)
from tlvision.engine.datasets import (
    class_presence,
    label_options,
    measure_options,
    read_data,
    read_source_val,
    subset_notes,
    with_bits,
)
from tlvision.engine.doubtful import doubtful_labels
from tlvision.engine.frozen import random_and_frozen
from tlvision.engine.labels import resolve_labels
from tlvision.engine.limits import objects_given, predict_spec
from tlvision.engine.model_hooks import modify_model, refuse_unmerged
from tlvision.engine.run_model import open_run_model
from tlvision.engine.steps import processes, steps_per_epoch
from tlvision.engine.tiles import FOLDER as TILES
from tlvision.engine.tiles import cut_tiles
from tlvision.formats.coco import UnlabelledData, read_images
from tlvision.hooks import DataHook, Duration, Hook, ModelHook, ObjectiveHook, Plan, SetupHook, initial_plan
from tlvision.hooks.generators import own_generators
from tlvision.hooks.registry import build_hook
from tlvision.hooks.run_model import LearnsFromRun
from tlvision.library.library import local_weights, pinned
from tlvision.plugin import Adapter, BuildSpec, Plugin, WeightReport, get_plugin, map_groups
from tlvision.plugin.weights.files import looks_like_a_file, require_file
from tlvision.tasks import Metric, Task, get_task
from tlvision.types import ClassMap, Dataset, InputError

if TYPE_CHECKING:
    from torch import nn

    from tlvision.data.sampling import Weights
    from tlvision.data.settings import InputSettings
    from tlvision.data.train_images import TrainImages
    from tlvision.data.unlabelled import UnlabelledImages


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The parts that a run is built from.

    select: the metric that chooses the best checkpoint.
    report: which weights were loaded.
    notes:  remarks on the data, in addition to what their readers skipped.
    """

    config: Config
    plugin: Plugin
    task: Task
    select: Metric
    adapter: Adapter
    report: WeightReport
    classes: ClassMap
    train: Dataset
    val: Dataset
    source_val: Dataset | None
    unlabelled: UnlabelledData | None
    hooks: list[Hook]
    plan: Plan
    notes: tuple[str, ...] = ()

    def hook_modules(self) -> dict[str, nn.Module]:
        """Return the modules that objective hooks own, by hook name."""
        return {
            hook.key(): hook.module
            for hook in self.hooks
            if isinstance(hook, ObjectiveHook) and hook.module is not None
        }


def build_run(
    config: Config, *, weights: str | None = None, classes: ClassMap | None = None, as_pretrained: bool = False
) -> Run:
    """Read the data, build the model and let the setup hooks make the plan.

    weights:       overrides `model.weights`, to build the model for a checkpoint of the run.
    classes:       the classes of a run that is resumed; the training json must still have them.
    as_pretrained: give the model every class of the weights that `model.rename` calls ours, to be evaluated as it is.

    What is cheap to check is checked first: names, hooks, then labels (for masks, that every object has one),
    then images, then weights.
    """
    plugin = get_plugin(config.model.plugin)
    if weights is None:
        config = _with_version(config)
    task = get_task(plugin.task_of(config.model.arch))
    options = read_options(plugin, config.model.options)
    select = selection_metric(config, task)
    hooks = build_hooks(config)
    check_packages(hooks, config.evaluate)
    check_pairing(hooks, plugin, task)
    check_unlabelled(config, hooks)
    start = weights or local_weights(config.model.weights)
    if looks_like_a_file(start):
        require_file(Path(start))  # before images are rendered or read
    if weights is None:
        refuse_unmerged(start)
    render_data(config)
    config, found = resolve_labels(config)
    train, val = read_data(config, task, classes)
    check_keys(config, task)  # after the data: labels of another task are the likelier mistake
    config = config.model_copy(update={"data": with_bits(config.data, train)})
    target = config.data.target
    unlabelled = None if target is None else read_images(target.images, target.json_, bits=config.data.bits)
    others = None if unlabelled is None else len(unlabelled.images)
    check_step_size(config, len(train.samples), others, processes())
    notes = [
        *found,
        *subset_notes(config, {"train": train, "val" if config.data.val is not None else "source_val": val}),
        *unused_pseudo_labels(hooks),
        *task.check_train(train),
        *task.check_measurable(val, measure_options(config), select.name),
    ]
    notes += task.check_limits(val, counts=config.evaluate.max_detections, gives=objects_given(config, task))
    named, target_classes = _classes_of_the_head(
        train.classes, config, own_weights=weights is not None, whole=as_pretrained
    )
    spec = BuildSpec(
        arch=config.model.arch,
        weights=start,
        classes=named,
        image_size=config.data.image_size,
        options=options,
        predict=predict_spec(config, task),
    )
    seed_everything(config.train.seed)  # the same fresh head in every process and every repetition
    adapter, report = plugin.build(spec)
    _check_finite(adapter, spec.weights)
    notes += [*check_overlap(train, val), *check_images(train), *doubtful_labels(train, (val,))]
    if config.data.tiles.size:
        folder = Path(config.run.out).parent / TILES
        train, sentences = cut_tiles(train, config.data.tiles, folder, seed=config.train.seed)
        notes += sentences
    notes += [*augment_notes(config, train.classes.names), *_sampling_notes(config, train)]
    notes += task.check_sizes(train, adapter.input_spec, config.data.image_size)
    if unlabelled is not None:
        notes += check_unlabelled_overlap(unlabelled.images, val)
    for hook in hooks:
        check_needs(hook, adapter, plugin)  # first: modify and prepare may rely on it
    notes += modify_model(hooks, adapter)
    for hook in hooks:
        _prepare(hook, adapter, task)
    groups = map_groups(adapter.module, adapter.groups)
    duration = Duration(config.train.epochs, steps_per_epoch(config, len(train.samples)))
    plan = initial_plan(adapter.module, groups, duration)
    for hook in hooks:
        if isinstance(hook, SetupHook | ModelHook):
            plan = hook.setup(plan)
    notes += random_and_frozen(plan, report)
    return Run(
        config=config,
        plugin=plugin,
        task=task,
        select=select,
        adapter=adapter if target_classes is None else _merged(adapter, target_classes),
        report=report,
        classes=train.classes,
        train=train,
        val=val,
        source_val=read_source_val(config, task, train.classes),
        unlabelled=unlabelled,
        hooks=hooks,
        plan=plan,
        notes=tuple(notes),
    )


def _with_version(config: Config) -> Config:
    """Return the config with the version of a model of the library that it starts from."""
    model = config.model.model_copy(update={"weights": pinned(config.model.weights)})
    return config.model_copy(update={"model": model})


def _prepare(hook: Hook, adapter: Adapter, task: Task) -> None:
    if isinstance(hook, LearnsFromRun):
        hook.open_run(open_run_model(hook.run, task, hook.key()))
    if isinstance(hook, ObjectiveHook | SetupHook):
        with own_generators("prepare", hook.key()):  # what it initialises depends on no other hook
            hook.prepare(adapter)
    check_taps(hook, adapter)


def _sampling_notes(config: Config, train: Dataset) -> list[str]:
    from tlvision.data.sampling import sampling_note

    sampling = config.data.sampling
    return [] if sampling.kind == "uniform" else [sampling_note(sampling, _weights(config, train))]


def _check_finite(adapter: Adapter, weights: str) -> None:
    """Raise InputError that names the tensor if weights that were loaded are not finite."""
    from tlvision.inference.finite import first_bad_tensor

    bad = first_bad_tensor(adapter.module)
    if bad is not None:
        raise InputError(
            f"weights: '{weights}' is damaged: the tensor '{bad}' is not finite. Use another checkpoint, or train "
            "again with a lower train.lr."
        )


def _classes_of_the_head(
    classes: ClassMap, config: Config, *, own_weights: bool, whole: bool
) -> tuple[ClassMap, tuple[int, ...] | None]:
    """Return the classes that the head is built with; and the index of ours for each, where those are not ours."""
    if own_weights:
        return classes, None
    if not whole:
        return trained_classes(classes, config.model.rename), None
    source_classes, target_classes = pretrained_classes(classes, config.model.rename)
    return source_classes, target_classes if len(source_classes) > len(classes) else None


def _merged(adapter: Adapter, target_classes: Sequence[int]) -> Adapter:
    from tlvision.inference.merged_classes import merge_classes

    return merge_classes(adapter, target_classes)


def selection_metric(config: Config, task: Task) -> Metric:
    """Return the metric that chooses the best checkpoint; InputError if the run does not measure it."""
    from tlvision.inference.domain_evaluator import resolve_domain_select
    from tlvision.inference.evaluator import resolve_select

    data = config.data
    if not data.two_domains:
        return resolve_select(config.evaluate.select, task, config.evaluate.max_detections)
    return resolve_domain_select(
        config.evaluate.select,
        task,
        main="source" if data.val is None else "target",
        source=data.source_val is not None,
        unlabelled=data.target is not None,
        most=config.evaluate.max_detections,
    )


def unlabelled_images(parts: Run) -> UnlabelledImages | None:
    """Return the unlabelled images of a run as pairs of views, or None if it has none."""
    from tlvision.data.unlabelled import UnlabelledImages

    if parts.unlabelled is None:
        return None
    return UnlabelledImages(parts.unlabelled.images, parts.adapter.input_spec, _input_settings(parts.config))


def training_images(parts: Run, unlabelled: UnlabelledImages | None) -> TrainImages:
    """Return the augmented training images of a run; data hooks take their style from the images of `unlabelled`."""
    from tlvision.data.train_images import TrainImages
    from tlvision.data.unlabelled import Styles

    changes = tuple(hook.change for hook in parts.hooks if isinstance(hook, DataHook))
    return TrainImages(
        parts.train.samples,
        parts.adapter.input_spec,
        _input_settings(parts.config),
        num_classes=len(parts.classes),
        parts=parts.task.targets(parts.train, label_options(parts.config.data)),
        restyle=Styles(changes, unlabelled).apply if changes and unlabelled is not None else None,
        weights=_weights(parts.config, parts.train),
    )


def _weights(config: Config, train: Dataset) -> Weights | None:
    from tlvision.data.sampling import image_weights

    sampling = config.data.sampling
    return None if sampling.kind == "uniform" else image_weights(sampling, class_presence(train))


def _input_settings(config: Config) -> InputSettings:
    from tlvision.data.settings import InputSettings

    data = config.data
    return InputSettings(data.image_size, data.augment, data.canvas, config.train.seed, data.cache_bytes)


def seed_everything(seed: int) -> None:
    """Seed python's, numpy's and torch's global generators."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def render_data(config: Config) -> None:
    """Render the data of a config that asks for it, unless they exist."""
    settings = config.data.render
    if settings is None:
        return
    from tlvision.synthetic.inspection import render_inspection

    render_inspection(
        Path(settings.out), domain=settings.domain, train=settings.train, val=settings.val, seed=settings.seed
    )


def build_hooks(config: Config) -> list[Hook]:
    """Build the hooks in the order of the file; those that every run has come last unless the file names them."""
    return [build_hook(hook.name, hook.parameters) for hook in all_hooks(config.hooks)]
