"""Read and write bundle.json: everything that a bundle's graphs do not say themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.evaluation.operating_point import DEFAULT_SCORE
from tlvision.evaluation.score_map import ScoreMap
from tlvision.files.inputs import file_hash
from tlvision.files.json_files import read_object, write_json
from tlvision.plugin.export import Candidates, Decoder, DenseScores, TwoStage
from tlvision.types import ClassMap, ClassThresholds, InputError, InputSpec

if TYPE_CHECKING:
    from tlvision.data.settings import TileSettings

NAME = "bundle.json"
FORMAT = 1
"""Raised when an older tlvision could no longer read a bundle."""
_REMEDY = "Restore it from a copy, or export the run again with 'tlvision export'."
_DECODERS = {"candidates": Candidates, "dense": DenseScores, "two_stage": TwoStage}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What `tlvision.runtime` needs to know besides the graphs.

    task:       name of the task. name: of the run.
    input_spec: the form of images. image_size: long side of the network input in pixels.
    fixed:      height and width of the network input of a graph that takes no other, one image at a time; None where
                batch, height and width are free.
    decoder:    how the outputs of the graphs are read.
    graphs:     file of each graph, by its name. graph_format: "onnx" or "openvino".
    thresholds, score_map: which objects count, and with which scores.
    window:     side in pixels of the sliding window of segmenters; 0 for whole images.
    tiles:      how large images are cut; None for whole images.
    most:       objects of an image at most, of all tiles together.
    bits:       bits in use of images with 16-bit values; None if the run had none.
    licence:    SPDX identifier of the licence of the plugin together with its upstream.
    provenance: where the model comes from: run, plugin, versions, hashes of the data.
    check:      what the export has compared.
    """

    task: str
    name: str
    classes: ClassMap
    input_spec: InputSpec
    image_size: int
    decoder: Decoder
    graphs: dict[str, str]
    graph_format: str
    thresholds: ClassThresholds = field(default_factory=lambda: ClassThresholds(DEFAULT_SCORE))
    score_map: ScoreMap | None = None
    fixed: tuple[int, int] | None = None
    window: int = 0
    tiles: TileSettings | None = None
    most: int = 300
    bits: int | None = None
    licence: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    check: dict[str, Any] = field(default_factory=dict)


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Write bundle.json into the folder, which holds the graphs; with the sha256 of every other file there."""
    files = {
        path.relative_to(folder).as_posix(): file_hash(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / NAME
    }
    values = {
        "format": FORMAT,
        "task": bundle.task,
        "name": bundle.name,
        "classes": bundle.classes.to_json(),
        "input": {"image_size": bundle.image_size, "fixed": bundle.fixed, **asdict(bundle.input_spec)},
        "decoder": asdict(bundle.decoder),
        "graphs": bundle.graphs,
        "graph_format": bundle.graph_format,
        "thresholds": {"default": bundle.thresholds.default, "per_class": dict(bundle.thresholds.per_class)},
        "score_map": None if bundle.score_map is None else bundle.score_map.as_json(),
        "window": bundle.window,
        "tiles": None if bundle.tiles is None else bundle.tiles.model_dump(),
        "most": bundle.most,
        "bits": bundle.bits,
        "licence": bundle.licence,
        "provenance": bundle.provenance,
        "check": bundle.check,
        "files": files,
    }
    write_json(folder / NAME, values, indent=1, nan="null")


def is_bundle(folder: Path) -> bool:
    """Return whether a folder holds a bundle."""
    return (folder / NAME).is_file()


def read_bundle(folder: Path) -> Bundle:
    """Read bundle.json, and compare the other files with it.

    Raises InputError if `folder` is no bundle, was written by a later tlvision, or a file is missing or has changed.
    """
    path = folder / NAME
    if not path.is_file():
        raise InputError(f"bundle: '{folder}' holds no {NAME}; give a folder that 'tlvision export' has written")
    content = read_object(path, _REMEDY)
    if content.get("format") != FORMAT:
        raise InputError(
            f"bundle: '{path}' has format {content.get('format')!r}, and this tlvision reads {FORMAT}. Update "
            "tlvision, or export the run again"
        )
    try:
        bundle = _parse(content)
        files = {str(name): str(value) for name, value in content["files"].items()}
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"bundle: '{path}' is damaged ({type(error).__name__}: {error}). {_REMEDY}") from None
    unlisted = [name for name in bundle.graphs.values() if name not in files]
    if unlisted:
        raise InputError(f"bundle: '{path}' is damaged: it does not list {unlisted[0]}. {_REMEDY}")
    for name, value in files.items():
        _check_file(folder, name, value)
    return bundle


def _check_file(folder: Path, name: str, value: str) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"bundle: '{name}' of {NAME} lies outside of '{folder}'. {_REMEDY}")
    if not path.is_file():
        raise InputError(f"bundle: '{path}' is missing. {_REMEDY}")
    if file_hash(path) != value:
        raise InputError(f"bundle: '{path}' has changed since it was exported (its sha256 differs). {_REMEDY}")


def _parse(content: dict[str, Any]) -> Bundle:
    from pydantic import TypeAdapter

    from tlvision.data.settings import TileSettings

    decoder = content["decoder"]
    image = dict(content["input"])
    size, fixed = int(image.pop("image_size")), image.pop("fixed")
    thresholds, tiles, score_map = content["thresholds"], content["tiles"], content["score_map"]
    return Bundle(
        task=str(content["task"]),
        name=str(content["name"]),
        classes=ClassMap.from_json(content["classes"]),
        input_spec=TypeAdapter(InputSpec).validate_python(image),
        image_size=size,
        fixed=None if fixed is None else (int(fixed[0]), int(fixed[1])),
        decoder=TypeAdapter(_DECODERS[decoder["kind"]]).validate_python(decoder),
        graphs={str(name): str(file) for name, file in content["graphs"].items()},
        graph_format=str(content["graph_format"]),
        thresholds=ClassThresholds(thresholds["default"], thresholds["per_class"]),
        score_map=None if score_map is None else ScoreMap.from_json(score_map),
        window=int(content["window"]),
        tiles=None if tiles is None else TileSettings.model_validate(tiles),
        most=int(content["most"]),
        bits=content["bits"],
        licence=str(content["licence"]),
        provenance=dict(content["provenance"]),
        check=dict(content["check"]),
    )
