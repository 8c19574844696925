"""Write the model card of a bundle: what it is, how good it is, where it comes from, in Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.engine.operating_point import shown_thresholds
from tlvision.files.json_files import read_object, write_text
from tlvision.inference.evaluator import flatten
from tlvision.runtime.bundle import Bundle
from tlvision.types import counted

if TYPE_CHECKING:
    from tlvision.engine.model import LoadedModel

NAME = "README.md"


def write_card(folder: Path, bundle: Bundle, model: LoadedModel) -> None:
    """Write README.md into a bundle's folder."""
    metrics = read_object(model.run / "metrics.json", "Restore the file from a copy, or use another run.")
    values = [f"| {name} | {value:.4f} |" for name, value in flatten(metrics).items()]
    classes = [
        f"| {_cell(name)} | {source} |"
        for name, source in zip(bundle.classes.names, bundle.classes.source_ids, strict=True)
    ]
    write_text(
        folder / NAME,
        f"""# {_cell(bundle.name)}

A model for the task "{bundle.task}", exported by tlvision. {counted(len(bundle.classes), "class")}; long side of the
network input {bundle.image_size} px; graphs in {bundle.graph_format}.

```python
import tlvision.runtime

model = tlvision.runtime.load("{folder.name if folder.name != "bundle" else "PATH_OF_THIS_FOLDER"}")
prediction = model.predict("image.jpg")
```

`pip install "tlvision[runtime]"` is enough for it; torch is not needed.

## Measured

On the validation images of the run:

| metric | value |
|---|---|
{chr(10).join(values)}

{_check(bundle.check) if bundle.check else _compression(bundle.provenance["compression"])}
{_point(bundle)}
## Classes

| class | id in the training data |
|---|---|
{chr(10).join(classes)}

## Origin

| | |
|---|---|
{chr(10).join(_origin(bundle))}

## Licence

The model family with its library: {bundle.licence}. Weights that training started from, and data, have licences of
their own.
""",
    )


def _check(check: dict[str, Any]) -> str:
    comparison = check["comparison"]
    share = "no object scored high enough to be compared"
    if comparison["same"] is not None:
        share = (
            f"{comparison['same']:.2%} of {comparison['objects']:,} objects or pixels are the same (boxes within "
            f"{comparison['box']:.2g} px, scores within {comparison['score']:.2g})"
        )
    ends = "" if check["bundle"] is None else f" {check['metric']} of this bundle: {check['bundle']:.4f}."
    return (
        f"This bundle was compared with the model in torch on {counted(comparison['images'], 'image')}: {share}."
        f"{ends}\n"
    )


def _compression(done: dict[str, Any]) -> str:
    search, in_float = done["search"], sum(map(len, done["in_float"].values()))
    return (
        f"The graphs compute with integers of 8 bits ({done['library']}), so the values above, of the run, are not "
        f"quite those of this bundle: on {counted(search['images'], 'training image')} the metric was "
        f"{search['int8']:.4f}, and {search['float']:.4f} in float. {in_float} of {done['layers']} layers with weights "
        "stay in float. Measure it on your own data with `tlvision evaluate --bundle`.\n"
    )


def _point(bundle: Bundle) -> str:
    if bundle.decoder.kind == "dense":
        return ""
    shown = shown_thresholds(bundle.thresholds, bundle.classes.names)
    return f"Objects count {shown}, unless another score is given.\n"


def _origin(bundle: Bundle) -> list[str]:
    about = bundle.provenance
    data = about.get("data", {})
    rows = {
        "run": about.get("run"),
        "model": f"{about.get('arch')} (plugin {about.get('plugin', {}).get('name')})",
        "start weights": f"{about.get('weights', {}).get('source')} (sha256 {about.get('weights', {}).get('sha256')})",
        "tlvision": f"{about.get('tlvision')} (commit {about.get('commit')})",
        **{
            f"data, {part}": f"{Path(str(data[part].get('labels'))).name}, {data[part].get('images')} images, labels "
            f"sha256 {data[part].get('sha256') or data[part].get('label_maps_content')}"
            for part in ("train", "val")
            if part in data
        },
    }
    return [f"| {name} | {_cell(str(value))} |" for name, value in rows.items()]


def _cell(text: str) -> str:
    """Return text that is a cell of a table, and no markup."""
    return "".join(f"\\{character}" if character in "\\|<>[]*_`#" else character for character in text)
