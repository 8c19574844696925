"""`tlvision config-reference` lists the whole schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tlvision.cli.config_reference import sections
from tlvision.cli.main import main
from tlvision.config.schema import Config

SHARED = ("data.val.", "data.source_val.", "data.oracle.")
"""Sections that are described at data.train."""


def schema_keys(node: dict[str, Any], definitions: dict[str, Any], key: str = "") -> Iterator[str]:
    """Yield the dotted keys of a JSON schema, which pydantic derives on its own."""
    for part in (node, *node.get("anyOf", []), *node.get("allOf", [])):
        target = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        for name, inner in target.get("properties", {}).items():
            full = f"{key}.{name}".removeprefix(".")
            yield full
            yield from schema_keys(inner, definitions, full)


def test_every_key_of_the_schema_is_described() -> None:
    schema = Config.model_json_schema()
    expected = {key for key in schema_keys(schema, schema["$defs"]) if not key.startswith(SHARED)}
    entries = [entry for section in sections() for entry in section.entries]
    assert len(expected) > 80
    assert {entry[0] for entry in entries} == expected
    assert len(entries) == len(expected)
    for key, kind, default, description in entries:
        assert kind, key
        assert default, key
        assert description.endswith("."), f"{key}: '{description}'"
        assert description[0].isupper() or description[0] == "`", f"{key}: '{description}'"
    assert all(section.text.endswith(".") for section in sections())


def test_type_limits_and_default_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config-reference", "train.lr"]) == 0
    assert capsys.readouterr().out.startswith("`train.lr` (float > 0 | auto; default 0.001)\n:   Peak learning rate.")
    assert main(["config-reference"]) == 0
    text = capsys.readouterr().out
    for expected in (
        "`data.image_size` (int, >= 32, <= 16384; default 640)",
        "`data.val` (mapping; optional)",
        "`run.out` (str; required)",
        "`train.schedule` (cosine | linear | constant | step; default cosine)",
        "Only `true` and `false` are booleans",
    ):
        assert expected in text


def test_a_section_is_printed_with_those_below_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config-reference", "data.augment"]) == 0
    text = capsys.readouterr().out
    assert "`data.augment.strong_view.blur`" in text
    assert "data.batch" not in text
    assert main(["config-reference", "data.agment"]) == 2
    assert "no key 'data.agment'. Did you mean 'data.augment'?" in capsys.readouterr().err
