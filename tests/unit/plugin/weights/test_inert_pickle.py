"""Reading torch pickles: the same tensors as torch.load gives, and nothing that the file names is ever run."""

from __future__ import annotations

import argparse
import collections
import functools
import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tlvision.plugin.weights.files import read_tensors
from tlvision.plugin.weights.inert_pickle import read_pickled_tensors
from tlvision.types import InputError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


class Block(nn.Module):
    """Has everything that a state_dict treats in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.absent: torch.Tensor | None
        self.register_parameter("absent", None)
        self.register_buffer("kept", torch.arange(3))
        self.register_buffer("left_out", torch.arange(3), persistent=False)


class Detector(nn.Module):
    """Two names for one block, and class names as upstream keeps them."""

    def __init__(self, names: Any = None) -> None:
        super().__init__()
        self.first = Block()
        self.again = self.first
        self.names = names


class Registry(dict[str, int]):
    """A dict subclass; its items come by SETITEMS."""


class History(list[int]):
    """A list subclass; its items come by APPENDS."""


class Slotted:
    """State that is a pair, of which the second half would be set attribute by attribute."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 3


class Attack:
    """Calls `function(*args)` when it is unpickled by a reader that runs what it finds."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


def save(value: Any, path: Path, zipped: bool = True) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def assert_same_tensors(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert expected
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


@FORMATS
def test_a_state_dict_is_what_torch_load_gives(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = {
        "whole": base,
        "transposed": base.t(),
        "with_an_offset": base[1:, 2:5],
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "expanded": torch.ones(1, 3).expand(5, 3),
        "parameter": nn.Parameter(torch.randn(3)),
    }
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int64, torch.uint8, torch.bool):
        state[str(dtype)] = torch.tensor([0, 1, 2]).to(dtype)
    path = save(state, tmp_path / "state.pt", zipped)
    assert_same_tensors(read_tensors(path).tensors, torch.load(path, weights_only=True))


@FORMATS
def test_a_whole_module_is_its_state_dict(tmp_path: Path, zipped: bool) -> None:
    module = Detector()
    path = save(module, tmp_path / "module.pt", zipped)
    found = read_pickled_tensors(path).tensors
    assert_same_tensors(found, dict(module.state_dict()))
    assert "first.left_out" not in found


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"ema": 1, "model": 2, "state_dict": 3}, 1),
        ({"ema": None, "model": 2, "state_dict": 3}, 2),
        ({"epoch": None, "state_dict": 3}, 3),
    ],
)
@pytest.mark.parametrize("whole", [True, False], ids=["module", "state dict"])
def test_ema_before_model_before_state_dict(
    tmp_path: Path, entries: dict[str, int | None], expected: int, whole: bool
) -> None:
    def model(value: int) -> Any:
        module = nn.Linear(1, 1)
        nn.init.constant_(module.weight, value)
        return module if whole else module.state_dict()

    checkpoint = {key: value and model(value) for key, value in entries.items()}
    path = save(checkpoint | {"optimizer": {"state": {0: torch.ones(3)}}}, tmp_path / "last.pt")
    found = read_pickled_tensors(path).tensors
    assert list(found) == ["weight", "bias"]
    assert found["weight"].item() == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({1: "dog", 0: "cat"}, ("cat", "dog")),
        (["cat", "dog"], ("cat", "dog")),
        ({0: "cat", 2: "dog"}, None),
        ([], None),
        (None, None),
        ("cat", None),
    ],
)
def test_class_names_of_the_stored_model(tmp_path: Path, names: Any, expected: tuple[str, ...] | None) -> None:
    as_attribute = save({"model": Detector(names)}, tmp_path / "attribute.pt")
    as_key = save({"model": nn.Linear(1, 1).state_dict(), "names": names}, tmp_path / "key.pt")
    assert read_pickled_tensors(as_attribute).class_names == expected
    assert read_pickled_tensors(as_key).class_names == expected


def test_what_else_a_checkpoint_holds_is_no_hindrance(tmp_path: Path) -> None:
    extras = {
        "args": argparse.Namespace(lr=0.1),
        "path": Path("runs"),
        "partial": functools.partial(int, "3"),
        "scalar": np.float64(0.5),
        "array": np.arange(3),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "size": torch.Size([1, 2]),
        "registry": Registry(a=1),
        "history": History([1, 2]),
        "counter": collections.Counter("aab"),
        "default": collections.defaultdict(list, a=[1]),
        "deque": collections.deque([1, 2]),
        "set": {1, 2},
        "frozen": frozenset({1}),
        "bytes": b"x",
        "complex": 1j,
        "slotted": Slotted(),
        "bound": [].append,
        "range": range(3),
    }
    module = Detector()
    path = save({"model": module, **extras}, tmp_path / "last.pt")
    assert_same_tensors(read_pickled_tensors(path).tensors, dict(module.state_dict()))


def attacks(marker: Path) -> dict[str, Attack]:
    return {
        "os.system": Attack(os.system, f"echo run > {marker}"),
        "builtins.eval": Attack(eval, f"open({str(marker)!r}, 'w').close()"),
        "builtins.exec": Attack(exec, f"open({str(marker)!r}, 'w').close()"),
        "a file write": Attack(open, str(marker), "w"),
        "a method": Attack(Path.touch, marker),
        "map": Attack(list, map(os.mkdir, [str(marker)])),
    }


ATTACKS = tuple(attacks(Path("marker")))


@pytest.mark.parametrize("attack", ATTACKS)
@FORMATS
def test_nothing_in_a_pickle_is_run(tmp_path: Path, attack: str, zipped: bool) -> None:
    marker = tmp_path / "marker"
    payload = attacks(marker)[attack]
    weights = {"weight": torch.ones(2)}
    path = save({"first": payload, "state_dict": weights, "last": [payload]}, tmp_path / "bad.pt", zipped)
    assert list(read_pickled_tensors(path).tensors) == ["weight"]
    assert not marker.exists()

    bare = tmp_path / "bare.pt"
    bare.write_bytes(pickle.dumps(payload))
    with pytest.raises(InputError):
        read_pickled_tensors(bare)
    assert not marker.exists()

    result = pickle.loads(bare.read_bytes())  # the attack is a real one
    if hasattr(result, "close"):
        result.close()
    assert marker.exists()


def test_an_attack_is_not_even_imported(tmp_path: Path) -> None:
    # GLOBAL 'this s', EMPTY_TUPLE, REDUCE, STOP: the module `this` prints when it is imported.
    path = tmp_path / "import.pt"
    path.write_bytes(b"\x80\x02cthis\ns\n)R.")
    assert "this" not in sys.modules
    with pytest.raises(InputError):
        read_pickled_tensors(path)
    assert "this" not in sys.modules


def zip_with(pickled: bytes, path: Path, storages: dict[str, bytes] | None = None) -> Path:
    """Write a torch zip file around a pickle written by hand."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)
    return path


@pytest.mark.parametrize(
    "name",
    ["torch._utils\n_rebuild_tensor_v2", "torch\nFloatStorage", "some.module\nClass", "collections\nOrderedDict"],
)
def test_state_cannot_be_set_on_a_class(tmp_path: Path, name: str) -> None:
    # GLOBAL name, (None, {"poisoned": 1}), BUILD: without __setstate__ the pickle machine calls setattr on the class.
    pickled = b"\x80\x02c" + name.encode() + b"\n" + b"N}X\x08\x00\x00\x00poisonedK\x01s\x86b."
    with pytest.raises(InputError):
        read_pickled_tensors(zip_with(pickled, tmp_path / "build.pt"))
    clean = save({"weight": torch.ones(1)}, tmp_path / "clean.pt")
    assert read_pickled_tensors(clean).tensors["weight"].item() == 1


def tensor_pickle(size: int, stride: int, offset: int) -> bytes:
    """{"weight": a tensor over storage 0, four float32} with the shape that is asked for."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    number = [b"J" + struct.pack("<i", value) for value in (offset, size, stride)]
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number[0] + number[1] + b"\x85" + number[2] + b"\x85"
    return b"\x80\x02}X\x06\x00\x00\x00weight" + call + b"\x89}tRs."


def test_a_tensor_may_not_reach_outside_of_its_storage(tmp_path: Path) -> None:
    data = {"0": np.arange(4, dtype=np.float32).tobytes()}
    good = read_pickled_tensors(zip_with(tensor_pickle(2, 2, 1), tmp_path / "good.pt", data))
    assert good.tensors["weight"].tolist() == [1, 3]
    for number, (size, stride, offset) in enumerate([(5, 1, 0), (4, 1, 1), (2, 4, 0), (1, 1, -1), (2, -1, 1)]):
        path = zip_with(tensor_pickle(size, stride, offset), tmp_path / f"bad{number}.pt", data)
        with pytest.raises(InputError, match="cannot be read as a torch checkpoint"):
            read_pickled_tensors(path)
    short = zip_with(tensor_pickle(2, 1, 0), tmp_path / "short.pt", {"0": b"1234"})
    with pytest.raises(InputError, match="cut off"):
        read_pickled_tensors(short)


@FORMATS
def test_a_file_that_is_cut_off_anywhere_is_an_input_error(tmp_path: Path, zipped: bool) -> None:
    whole = save({"model": Detector()}, tmp_path / "whole.pt", zipped).read_bytes()
    lengths = range(0, len(whole) - 1, max(1, len(whole) // 97))
    assert len(lengths) > 90
    path = tmp_path / "cut.pt"
    for length in lengths:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.pt"):
            read_pickled_tensors(path)


def test_a_cut_in_a_storage_that_no_tensor_needs_is_found(tmp_path: Path) -> None:
    """The order of storages follows their addresses, so that a buffer which is not persistent may come last."""
    models = [Detector() for _ in range(30)]
    path = tmp_path / "cut.pt"
    for model in models:
        path.write_bytes(save({"model": model}, tmp_path / "whole.pt", zipped=False).read_bytes()[:-1])
        with pytest.raises(InputError, match=r"cut\.pt"):
            read_pickled_tensors(path)


@FORMATS
def test_a_damaged_file_is_read_or_refused_and_never_crashes(tmp_path: Path, zipped: bool) -> None:
    whole = save({"model": Detector(["cat"])}, tmp_path / "whole.pt", zipped).read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    path = tmp_path / "damaged.pt"
    for _ in range(300):
        damaged = bytearray(whole)
        for position in generator.integers(0, len(whole), 3):
            damaged[position] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            read_pickled_tensors(path)
        except InputError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><html>404</html>", b"PK\x03\x04 not a zip", pickle.dumps({"weight": [1.0]})]
)
def test_what_torch_did_not_write_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"other\.pt.*write it again"):
        read_pickled_tensors(path)


@pytest.mark.parametrize("value", [{"epoch": 3}, {"model": None}, [torch.ones(1)], 3])
def test_a_checkpoint_without_a_named_tensor_is_an_input_error(tmp_path: Path, value: Any) -> None:
    path = save(value, tmp_path / "empty.pt")
    with pytest.raises(InputError, match="holds no tensor"):
        read_pickled_tensors(path)


def test_a_module_that_contains_itself_is_an_input_error(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(1, 1))
    module._modules["again"] = module
    with pytest.raises(InputError, match="contains itself"):
        read_pickled_tensors(save(module, tmp_path / "cycle.pt"))


PLAIN = (
    "yolov5n-coco-v6.0.state_dict.pt",
    "squeezenet1_0-imagenet-deepcompressed.pth",
    "resnet20-12fca82f.th",
    "yolox_nano-coco-mmdet-from-onnx.pth",
)


@pytest.mark.shared
@pytest.mark.parametrize("name", PLAIN)
def test_real_files_are_what_torch_load_gives(shared: Path, name: str) -> None:
    path = shared / "weights" / name
    expected = torch.load(path, weights_only=True, map_location="cpu")
    assert_same_tensors(read_tensors(path).tensors, expected.get("state_dict", expected))
