"""Every code block of the docs is executed or checked: Python runs, configs fit the schema, commands are parsed."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tlvision.cli.config_reference import sections
from tlvision.cli.main import VERBS, build_parser
from tlvision.config.load import load_config
from tlvision.config.presets import presets
from tlvision.config.yaml_text import parse_yaml
from tlvision.experiment.file import parse_experiment

ROOT = Path(__file__).resolve().parents[3]
# Programs of several blocks, which tests of their own run (test_writing_*.py, tests/plugins/third_party).
PROGRAMS = ("docs/writing-a-hook.md", "docs/writing-a-plugin.md", "docs/writing-a-task.md")
FREE = ("hooks.", "model.options.", "model.rename.")
"""Keys below these are not in the schema."""


class Block(NamedTuple):
    page: str
    language: str
    text: str


def all_blocks() -> list[Block]:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")]
    assert len(pages) > 15
    return [
        Block(path.relative_to(ROOT).as_posix(), match[2], re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE))
        for path in sorted(pages)
        for match in re.finditer(r"^( *)```(\w*)\n(.*?)^ *```$", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    ]


def blocks(language: str) -> list[Any]:
    found = [block for block in all_blocks() if block.language == language]
    assert found, language
    return [pytest.param(block, id=f"{block.page}-{number}") for number, block in enumerate(found)]


def test_every_language_is_checked() -> None:
    """Blocks without a language show output or diagrams."""
    assert {block.language for block in all_blocks()} <= {"python", "yaml", "toml", "bash", "text", ""}


@pytest.fixture(scope="module")
def bundle(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small run, exported."""
    from tlvision.export.export import export_run

    return export_run(small_run, tmp_path_factory.mktemp("bundle") / "bundle").folder


@pytest.mark.slow
@pytest.mark.parametrize("block", [p for p in blocks("python") if p.values[0].page not in PROGRAMS])
def test_python_runs(
    block: Block, small_run: Path, tiny_dataset: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The block is run in a folder that has runs/quickstart, photo.jpg, and bundle if it names that."""
    if '"bundle"' in block.text:
        (tmp_path / "bundle").symlink_to(request.getfixturevalue("bundle"))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(small_run)
    shutil.copy(sorted((tiny_dataset / "images").iterdir())[0], tmp_path / "photo.jpg")
    subprocess.run([sys.executable, "-c", block.text], check=True, cwd=tmp_path)


@pytest.mark.parametrize("block", blocks("toml"))
def test_toml_is_parsed(block: Block) -> None:
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("block", blocks("yaml"))
def test_configs_fit_the_schema(block: Block, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """The block is put on top of a small config; bases that are not presets are empty files."""
    values = parse_yaml(block.text, block.page)
    assert isinstance(values, dict)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(tiny_config))
    if {"axes", "search"} & values.keys():
        experiment = parse_experiment({"base": "small.yaml", **values}, block.page)
        for variant in [each for axis in experiment.axes.values() for each in axis.named().values()]:
            keys = {**experiment.set, **variant.set}
            load_config(tmp_path / "small.yaml", [f"{key}={json.dumps(value)}" for key, value in keys.items()])
        return
    bases = ["small", *values.pop("base", [])]
    for name in set(bases) - set(presets()) - {"small"}:
        (tmp_path / f"{name}.yaml").write_text("{}")
    path = tmp_path / "block.yaml"
    path.write_text(yaml.safe_dump({"base": bases, **values}))
    load_config(path)


def commands(block: Block) -> Iterator[list[str]]:
    """Yield the arguments of each command of tlvision, without what only a shell needs."""
    text = re.sub(r'"[^"]*"', lambda quoted: " ".join(quoted[0].split()), block.text.replace("\\\n", " "))
    variables = {
        name: value.strip('"') for name, value in re.findall(r"^([A-Z]+)=(\"[^\"]*\"|\S+)", text, re.MULTILINE)
    }
    for line in text.splitlines():
        for name, value in variables.items():
            line = re.sub(rf"\${name}\b", value, line)  # noqa: PLW2901
        for part in line.split("&&"):
            words = [word for word in shlex.split(part, comments=True) if word != "…"]
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words[:1] == ["torchrun"]:
                words = ["python", *words[words.index("tools/train.py") :]]
            if words[:1] == ["python"] and words[1].startswith("tools/"):
                yield [Path(words[1]).stem.replace("_", "-"), *words[2:]]
            elif words[:1] == ["tlvision"]:
                yield words[1:]


@pytest.mark.parametrize("block", blocks("bash"))
def test_commands_are_parsed(block: Block) -> None:
    for words in commands(block):
        if words[0] == "bench":
            assert (ROOT / "tools" / "benchmarks" / f"{words[1]}.py").is_file() or words[1] == "parity", words
        elif words[0] != "build-docs":
            assert words[0] in VERBS, words
            check_arguments(build_parser().parse_args(words))


def check_arguments(options: argparse.Namespace) -> None:
    """Check that presets, files of the repository and config keys exist."""
    named = [*getattr(options, "extra", []), *(getattr(options, "configs", None) or [getattr(options, "config", None)])]
    for name in (part for text in named if text for part in re.split(r"[+{},]", text)):
        if name.startswith("configs/"):
            assert (ROOT / name).is_file(), name
        elif name and not name.isupper() and not name.endswith(".yaml") and "…" not in name:
            assert name in presets(), name
    known = {entry[0] for section in sections() for entry in section.entries}
    known |= {key.replace("data.train.", f"data.{part}.") for key in known for part in ("val", "source_val", "oracle")}
    for key in (word.partition("=")[0] for word in getattr(options, "set", [])):
        assert key in known or key.startswith(FREE) or "…" in key, key


def test_every_benchmark_that_is_named_exists() -> None:
    text = "".join(path.read_text("utf-8") for path in ROOT.glob("docs/*.md"))
    names = set(re.findall(r"tools/bench\.py (\w+)", text))
    assert len(names) > 5
    assert not [name for name in names if not list((ROOT / "tools" / "benchmarks").glob(f"{name}*"))]
