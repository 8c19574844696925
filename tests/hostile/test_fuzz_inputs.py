"""Fuzz the readers of configs, panoptic json, class files and weights: they read what comes, or raise InputError.

The fast tests take 50 examples each, always the same. The slow ones take new examples for TLVISION_FUZZ_SECONDS
(default 30) in all.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from tlvision.config.load import dump_config, load_config
from tlvision.formats.label_maps import read_class_file, read_label_map, read_panoptic
from tlvision.plugin.weights.files import read_tensors
from tlvision.types import InputError, LabelMapFile

CONFIG: dict[str, Any] = {
    "model": {"plugin": "toy", "arch": "tiny_detector", "weights": "none", "rename": {"a": "b"}, "options": {}},
    "data": {
        "train": {"json": "t.json", "images": "i"},
        "val": {"json": "v.json", "images": "i", "masks": "m"},
        "target": {"images": "x"},
        "render": {"out": "r", "seed": 1, "train": 4},
        "classes": ["a", "b"],
        "image_size": 64,
        "batch": {"labelled": 4, "unlabelled": 2},
        "augment": {"mosaic": 0.5, "crop": 32, "strong_view": {"hue": 0.1}},
        "workers": 2,
        "cache": "auto",
    },
    "train": {"epochs": 3, "lr": 1e-3, "seed": 0, "verify": "off", "schedule": "linear", "accumulate": 2},
    "hooks": [
        "ema",
        {"freeze": {"roles": ["stem"]}},
        {"lr_groups": {"groups": {"neck": {"lr": 0.1}}}},
        {"log": {"every": 2}},
    ],
    "evaluate": {"every": 1, "boundary": True, "select": "auto"},
    "run": {"out": "runs/x"},
}
PANOPTIC: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "annotations": [
        {"image_id": 1, "file_name": "a.png", "segments_info": [{"id": 7, "category_id": 3, "iscrowd": 0}]},
        {"image_id": 2, "file_name": "b.png", "segments_info": [{"id": 7, "category_id": 90}]},
    ],
    "categories": [{"id": 90, "name": "grass"}, {"id": 3, "name": "car"}],
}

texts = st.text(max_size=12) | st.sampled_from(
    [
        "",
        ".",
        "..",
        "../x.png",
        "/etc/passwd",
        "a.png",
        "b.png",
        "C:\\a",
        "a\0b",
        "[/]",
        "off",
        "1e999",
        "\ud800",
        "x" * 3000,
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.integers(-3, 300) | st.just(10**400) | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=12
)


def places(value: Any) -> list[tuple[Any, ...]]:
    """Return the path of every part of a structure of dicts and lists."""
    found: list[tuple[Any, ...]] = [()]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += [(key, *path) for path in places(inner)]
    return found


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any], Any]) -> Any:
    """Return a copy in which the part at `path` is changed; a change to nothing (Ellipsis) removes it."""
    if not path:
        return change(value)
    key, *rest = path
    copy: Any = dict(value) if isinstance(value, dict) else list(value)
    inner = changed(copy[key], tuple(rest), change)
    if inner is ...:
        del copy[key]
    else:
        copy[key] = inner
    return copy


def mutated(base: Any) -> st.SearchStrategy[Any]:
    """Return copies of `base` with one to three parts replaced, removed, repeated or given a further key."""

    @st.composite
    def build(draw: st.DrawFn) -> Any:
        value = base
        for _ in range(draw(st.integers(1, 3))):
            path = draw(st.sampled_from(places(value)))
            kind = draw(st.sampled_from(["replace", "replace", "remove", "repeat", "add"]))
            new = draw(values)
            name = draw(texts)

            def change(part: Any, kind: str = kind, new: Any = new, name: str = name, path: Any = path) -> Any:
                if kind == "remove" and path:
                    return ...
                if kind == "repeat" and isinstance(part, list):
                    return part + part
                if kind == "add" and isinstance(part, dict):
                    return {**part, name: new}
                return new

            value = changed(value, path, change)
        return value

    return build()


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def as_yaml(value: Any) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass")


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Return copies of a file that are cut off, or have bytes replaced, removed or inserted."""

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        data = bytearray(whole)
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, max(0, len(data) - 1)))
            kind = draw(st.sampled_from(["cut", "set", "remove", "insert"]))
            if kind == "cut":
                del data[start:]
            elif kind == "remove":
                del data[start : start + draw(st.integers(1, 8))]
            elif kind == "insert":
                data[start:start] = draw(st.binary(max_size=8))
            else:
                data[start : start + 1] = draw(st.binary(min_size=1, max_size=4))
        return bytes(data)

    return build()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two pictures of panoptic colours, which is also read as the images."""
    folder = tmp_path_factory.mktemp("fuzz")
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[..., 0] = 7
    for name in ("a.png", "b.png"):
        Image.fromarray(colours).save(folder / name)
    return folder


def picture(colour: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.png"
        pixels = np.zeros((4, 4, 3) if colour else (4, 4), np.uint8)
        Image.fromarray(pixels).save(path)
        return path.read_bytes()


def weights() -> bytes:
    header = {"__metadata__": {"classes": '["a", "b"]'}, "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(8)


def read_config(folder: Path, content: bytes) -> None:
    path = folder / "c.yaml"
    path.write_bytes(content)
    config = load_config(path)
    path.write_text(dump_config(config), encoding="utf-8")
    # nan and inf can be in model.options only, which the plugin's own schema checks; nan equals nothing.
    assert load_config(path) == config or any(odd in repr(config.model.options) for odd in ("nan", "inf"))


def set_config(folder: Path, override: str) -> None:
    load_config(CONFIG, [override])


def read_mapping(folder: Path, value: Any) -> None:
    if isinstance(value, dict):
        load_config(value)


def read_panoptic_json(folder: Path, content: bytes) -> None:
    (folder / "p.json").write_bytes(content)
    data = read_panoptic(folder / "p.json", folder, folder)
    assert all(folder.resolve() in sample.path.resolve().parents for sample in data.samples)


def read_classes(folder: Path, content: bytes) -> None:
    (folder / "classes.txt").write_bytes(content)
    assert read_class_file(folder / "classes.txt")


def read_label_png(folder: Path, content: bytes) -> None:
    (folder / "m.png").write_bytes(content)
    read_label_map(LabelMapFile(folder / "m.png", {0: 0, 255: 255}))


def read_panoptic_png(folder: Path, content: bytes) -> None:
    (folder / "m.png").write_bytes(content)
    read_label_map(LabelMapFile(folder / "m.png", {0: 255}, coloured=True))


def read_weights(folder: Path, content: bytes) -> None:
    for name in ("w.safetensors", "w.pt"):
        (folder / name).write_bytes(content)
        try:
            read_tensors(folder / name)
        except InputError:
            continue


dotted = st.lists(
    st.sampled_from(["train", "data", "model", "hooks", "lr", "batch", "labelled", "out", "run", ""]), max_size=4
)
overrides = st.text(max_size=40) | st.builds(
    lambda keys, value: f"{'.'.join(keys)}={value}", dotted, st.text(max_size=20)
)
READERS: dict[str, tuple[Callable[[Path, Any], None], st.SearchStrategy[Any]]] = {
    "config: changed": (read_config, mutated(CONFIG).map(as_yaml)),
    "config: json": (read_config, mutated(CONFIG).map(as_json)),
    "config: damaged": (read_config, damaged(as_yaml(CONFIG))),
    "config: any bytes": (read_config, st.binary(max_size=200)),
    "config: any text": (read_config, st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))),
    "config: a mapping": (read_mapping, mutated(CONFIG)),
    "config: --set": (set_config, overrides),
    "panoptic: changed": (read_panoptic_json, mutated(PANOPTIC).map(as_json)),
    "panoptic: damaged": (read_panoptic_json, damaged(as_json(PANOPTIC))),
    "panoptic: any json": (read_panoptic_json, values.map(as_json)),
    "panoptic: any bytes": (read_panoptic_json, st.binary(max_size=100)),
    "classes: any bytes": (read_classes, st.binary(max_size=60)),
    "classes: any text": (read_classes, st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))),
    "label map: damaged": (read_label_png, damaged(picture(colour=False))),
    "panoptic PNG: damaged": (read_panoptic_png, damaged(picture(colour=True))),
    "weights: damaged": (read_weights, damaged(weights())),
    "weights: any bytes": (read_weights, st.binary(max_size=100)),
}
assert len(READERS) >= 15

FAST = settings(
    max_examples=50,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)


def try_reader(name: str, place: Path, chosen: settings, stop_at: float = float("inf")) -> int:
    """Feed examples to a reader until `stop_at` (perf_counter); return how many. Fails at anything but InputError."""
    read, strategy = READERS[name]
    count = 0

    @chosen
    @given(strategy)
    def check(value: Any) -> None:
        nonlocal count
        if count and time.perf_counter() > stop_at:  # one at least, however slow the machine
            return
        count += 1
        with contextlib.suppress(InputError):
            read(place, value)

    check()
    return count


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_the_same_examples_are_read_or_refused(name: str, place: Path) -> None:
    assert try_reader(name, place, FAST) > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_new_examples_are_read_or_refused(name: str, place: Path) -> None:
    seconds = float(os.environ.get("TLVISION_FUZZ_SECONDS", "30")) / len(READERS)
    start = time.perf_counter()
    total = 0
    long = settings(FAST, max_examples=1000, derandomize=False, phases=(Phase.generate, Phase.shrink))
    while time.perf_counter() - start < seconds:
        total += try_reader(name, place, long, start + seconds)
    print(f"{name}: {total} examples")
    assert total > 0
