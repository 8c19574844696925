"""Print the origin of each value of a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlvision.config.load import load_with_origins
from tlvision.config.yaml_text import write_yaml
from tlvision.types import leaves


def format_origins(
    config: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), extra: Sequence[str] = ()
) -> str:
    """Return a line for each value of the resolved config: key, value, and the file, preset or option that sets it.

    config, overrides, extra: as for `tlvision.config.load.load_config`.

    Raises InputError as `load_config` does.
    """
    loaded, origins = load_with_origins(config, overrides, extra)
    values = loaded.model_dump(mode="json", by_alias=True)
    values["hooks"] = {name: options for item in values["hooks"] for name, options in item.items()}
    rows = [(key, _text(value)) for key, value in leaves(values)]
    width = max(len(key) for key, _ in rows)
    room = max(len(value) for _, value in rows if len(value) <= _WIDE)
    return "\n".join(f"{key:<{width}}  {value:<{room}}  {_origin(key, origins)}" for key, value in rows)


_WIDE = 48


def _text(value: Any) -> str:
    return " ".join(write_yaml({"x": value}).removeprefix("x:").split())


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """Return the origin of a key, or of the section that was set as a whole."""
    while key:
        if key in origins:
            return origins[key]
        key = key.rpartition(".")[0]
    return "default"
