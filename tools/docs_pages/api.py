"""Pages of the API reference: the public modules, which mkdocstrings describes from their docstrings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApiPage:
    """One page of the API reference.

    name:    name of its file.
    title:   its heading.
    text:    an introduction, in Markdown.
    objects: modules and objects, by dotted name, in order.
    """

    name: str
    title: str
    text: str
    objects: tuple[str, ...]


EVALUATION = (
    "coco_map",
    "instance_map",
    "class_iou",
    "label_map_files",
    "boundary_iou",
    "confusion",
    "pseudo_labels",
    "pseudo_pixels",
    "distances",
    "protocol",
    "read",
    "summary",
)

PAGES = (
    ApiPage(
        "python",
        "Train, predict, evaluate and export from Python",
        "`import tlvision` imports neither torch nor any plugin.",
        (
            "tlvision.train",
            "tlvision.load",
            "tlvision.engine.train.TrainResult",
            "tlvision.trained_run.TrainedRun",
            "tlvision.engine.evaluate.EvaluateResult",
            "tlvision.export.export.ExportResult",
            "tlvision.engine.model.LoadedModel",
            "tlvision.runtime.model.RuntimeModel",
        ),
    ),
    ApiPage("types", "Value types", "", ("tlvision.types",)),
    ApiPage(
        "plugin",
        "Plugin protocol",
        "How to write one: [Writing a plugin](../writing-a-plugin.md).",
        (
            "tlvision.plugin.protocol",
            "tlvision.plugin.groups",
            "tlvision.plugin.registry",
            "tlvision.plugin.taps",
            "tlvision.plugin.dense",
            "tlvision.plugin.constants",
            "tlvision.conformance.plugin_checks",
        ),
    ),
    ApiPage(
        "hooks",
        "Hooks and plans",
        "How to write one: [Writing a hook](../writing-a-hook.md).",
        (
            "tlvision.hooks.base",
            "tlvision.hooks.plan",
        ),
    ),
    ApiPage(
        "tasks",
        "Tasks",
        "How to write one: [Writing a task](../writing-a-task.md).",
        (
            "tlvision.tasks.base",
            "tlvision.tasks.registry",
        ),
    ),
    ApiPage(
        "formats",
        "Formats",
        "Annotation files as samples, and back.",
        (
            "tlvision.formats.coco",
            "tlvision.formats.label_maps",
        ),
    ),
    # Not the package: it names functions as the modules that they are in, which hides them.
    ApiPage(
        "evaluation",
        "Evaluation",
        "Metrics from two files. Nothing here imports torch.",
        tuple(f"tlvision.evaluation.{name}" for name in EVALUATION),
    ),
)


def api_page(page: ApiPage) -> str:
    """Return the Markdown of one page."""
    parts = [f"# {page.title}", page.text, *(f"::: {name}" for name in page.objects)]
    return "\n\n".join(part for part in parts if part) + "\n"
