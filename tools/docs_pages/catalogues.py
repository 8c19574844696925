"""Pages about what is installed: config keys, commands, hooks, plugins, presets and tasks, from their registries."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from typing import Any

from docs_pages.docstrings import split_entries, to_markdown

from tlvision.cli.config_reference import markdown, sections
from tlvision.cli.field_text import default_text, docstring_text, field_text
from tlvision.cli.main import VERBS
from tlvision.cli.presets import TITLES
from tlvision.config.presets import presets
from tlvision.hooks.registry import BUILT_IN, hook_class, hook_schema, kind_name
from tlvision.plugin import HasOptions, Plugin, get_plugin
from tlvision.tasks.registry import built_in_tasks

KINDS = {
    "setup": "Setup hooks: what is trained, when and how fast",
    "model": "Model hooks: changes to the model's modules",
    "objective": "Objective hooks: additional losses",
    "data": "Data hooks: changes to labelled images",
    "observer": "Observer hooks: averages, checkpoints, logs",
}
PLUGINS = {
    "mmdet": "tlvision_openmmlab",
    "mmseg": "tlvision_openmmlab",
    "smp": "tlvision_smp",
    "torchvision": "tlvision_torchvision",
    "toy": None,
    "transformers": "tlvision_transformers",
    "yolo": "tlvision_yolo",
}
"""The plugins of this repository, and the folders with their READMEs."""

WIDTH = 84
"""Characters that fit into a code block of the site."""


def config_page() -> str:
    """Return the reference of all config keys."""
    head = "# Config reference\n\nGenerated from the schema; `tlvision config-reference` prints it."
    return f"{head}\n\n{markdown(sections())}"


def commands_page() -> str:
    """Return the help of every command."""
    parts = ["# Command line\n\nEvery command is also a script of a checkout: `python tools/VERB.py`."]
    for verb, purpose in VERBS.items():
        parser = argparse.ArgumentParser(
            prog=f"tlvision {verb}",
            description=purpose[0].upper() + purpose[1:],
            formatter_class=partial(argparse.HelpFormatter, width=WIDTH),
        )
        import_module(f"tlvision.cli.{verb.replace('-', '_')}").add_arguments(parser)
        parts.append(f"## tlvision {verb}\n\n```text\n{parser.format_help().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def hooks_page() -> str:
    """Return the catalogue of the hooks that come with tlvision."""
    parts = ["# Hooks\n\nGenerated from the registry; `tlvision hooks` prints it, with hooks of other packages."]
    classes = {name: hook_class(name) for name in BUILT_IN}
    kind_of = {name: kind_name(found) for name, found in classes.items()}
    for kind in dict.fromkeys([*KINDS, *kind_of.values()]):
        names = [name for name in BUILT_IN if kind_of[name] == kind]
        parts += [f"## {KINDS.get(kind, kind)}"] if names else []
        parts += [_hook(name, classes[name]) for name in names]
    return "\n\n".join(parts) + "\n"


def plugins_page() -> str:
    """Return the catalogue of the plugins of this repository."""
    parts = ["# Plugins\n\nGenerated from the registry; `tlvision plugins` prints it, with plugins of other packages."]
    parts += [_plugin(get_plugin(name)) for name in PLUGINS]
    return "\n\n".join(parts) + "\n"


def presets_page() -> str:
    """Return the catalogue of the presets."""
    parts = ["# Presets\n\nNames for `base`, `tlvision train` and `--with`; `tlvision presets` lists them."]
    for kind, title in TITLES.items():
        parts.append(f"## {title[0].upper()}{title[1:]}")
        for preset in presets().values():
            if preset.kind == kind:
                text = preset.path.read_text(encoding="utf-8").rstrip()
                parts.append(f"### {preset.name}\n\n{preset.purpose()}\n\n```yaml\n{text}\n```")
    return "\n\n".join(parts) + "\n"


def tasks_page() -> str:
    """Return the catalogue of the tasks."""
    rows = []
    for task in built_in_tasks():
        metrics = [f"`{metric.name}`" for metric in task.metrics()]
        shown = ", ".join(metrics[:8]) + (f" … {len(metrics)} in all" if len(metrics) > 8 else "")
        rows.append((f"`{task.name}`", task.noun, ", ".join(sorted(task.labels)), f"`{task.results_name}`", shown))
    head = "# Tasks\n\nThe first metric selects checkpoints. How to add a task: [Writing a task](../writing-a-task.md)."
    return f"{head}\n\n{_table(('task', 'predicts', 'labels', 'file of predictions', 'metrics'), rows)}\n"


def _hook(name: str, found: type) -> str:
    text, described = split_entries(docstring_text(found))
    rows = [
        (f"`{key}`", field_text(field), default_text(field).removeprefix("default "), described.get(key, ""))
        for key, field in hook_schema(found).model_fields.items()
    ]
    source = inspect.cleandoc(sys.modules[found.__module__].__doc__ or "").partition("\n\n")[2]
    parts = [
        f"### {name}",
        to_markdown(text),
        _table(("parameter", "type", "default", "description"), rows) if rows else "",
    ]
    return "\n\n".join(part for part in [*parts, to_markdown(source)] if part)


def _plugin(plugin: Plugin) -> str:
    known = plugin.architectures()
    upstream = f"{plugin.upstream} {plugin.upstream_versions}" if plugin.upstream else "none"
    rows = [
        ("tasks", ", ".join(plugin.tasks)),
        ("upstream", upstream),
        ("licence", plugin.licence),
        ("architectures", f"{len(known)}: {', '.join(f'`{arch}`' for arch in known[:6])} …"),
        *((f"`{power}`", state) for power, state in plugin.capabilities.items()),
    ]
    parts = [f"## {plugin.name}", _table(("property", "value"), rows)]
    if isinstance(plugin, HasOptions):
        options: Iterable[tuple[str, Any]] = plugin.options_type().model_fields.items()
        cells = [
            (f"`{key}`", field_text(f), default_text(f).removeprefix("default "), f.description or "")
            for key, f in options
        ]
        parts.append("`model.options`:\n\n" + _table(("option", "type", "default", "description"), cells))
    if folder := PLUGINS[plugin.name]:
        parts.append(f"More: [{folder}](../../plugins/{folder}/README.md).")
    return "\n\n".join(parts)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(
        [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *(f"| {' | '.join(row)} |" for row in cells)]
    )
