"""Take the tensors out of a torch pickle without running anything from it.

A checkpoint that `torch.save` wrote is a program for the pickle machine, and upstream trainers store whole modules, so
`torch.load` would import and run whatever the file names. Here every name in the file becomes an inert stand-in that
keeps its arguments and does nothing; tensors and storages become plain records; and only the storages that the
chosen model points at are turned into tensors.

Source: https://docs.python.org/3/library/pickle.html#restricting-globals; the layout of the two file formats is that of
torch.serialization (torch.save).
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from tlvision.plugin.weights.tensor_file import TensorFile
from tlvision.types import InputError

if TYPE_CHECKING:
    from torch import Tensor

# What a legacy file (before torch 1.6) begins with.
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

# The only real classes that a file gets: containers, whose construction runs no code but their own.
_CONTAINERS: dict[tuple[str, str], type] = {("collections", "OrderedDict"): OrderedDict} | {
    (module, kind.__name__): kind
    for module in ("builtins", "__builtin__")
    for kind in (set, frozenset, dict, list, tuple)
}

# torch's names of typed storages.
_STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}


class _StandIn:
    """Stands for a class or function that the file names: keeps its arguments and runs nothing."""

    origin = ""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self.args = args
        self.entries: dict[object, object] = {}
        self.state: object = None

    def __new__(cls, *args: object, **kwargs: object) -> _StandIn:
        self = super().__new__(cls)
        # The opcode NEWOBJ calls __new__ alone.
        _StandIn.__init__(self, *args, **kwargs)
        return self

    def __setstate__(self, state: object) -> None:
        # Because this exists, the pickle machine never sets attributes by itself, on an object or on a class.
        self.state = state

    def __call__(self, *args: object, **kwargs: object) -> _StandIn:
        return _StandIn(*args)

    def __iter__(self) -> Iterator[object]:
        return iter(())

    def __setitem__(self, key: object, value: object) -> None:
        self.entries[key] = value

    def append(self, item: object) -> None:
        """Take an item of a list subclass."""

    def extend(self, items: object) -> None:
        """Take the items of a list subclass."""

    def add(self, item: object) -> None:
        """Take an item of a set subclass."""

    def attributes(self) -> Mapping[Any, Any]:
        """Return the content of the object's __dict__."""
        return self.state if isinstance(self.state, dict) else {}


class _StorageKind(_StandIn):
    """Stands for a storage class, named by `origin`."""


class _StoredTensor(_StandIn):
    """Stands for torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)."""


class _StoredParameter(_StandIn):
    """Stands for torch._utils._rebuild_parameter(tensor, ...)."""


_TENSOR_RECORDS = {
    "_rebuild_tensor": _StoredTensor,
    "_rebuild_tensor_v2": _StoredTensor,
    "_rebuild_parameter": _StoredParameter,
    "_rebuild_parameter_with_state": _StoredParameter,
}


class _Storage(NamedTuple):
    """The location of a tensor's bytes: record, dtype and number of items."""

    key: str
    dtype: str
    numel: int


class _InertUnpickler(pickle.Unpickler):
    """Imports nothing: `find_class` makes a fresh stand-in for every name but the containers'."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, encoding="utf-8", errors="replace")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> type:
        if (module, name) in _CONTAINERS:
            return _CONTAINERS[module, name]
        base: type[_StandIn] = _StandIn
        if module == "torch._utils":
            base = _TENSOR_RECORDS.get(name, _StandIn)
        elif module in {"torch", "torch.storage"} and name in _STORAGE_DTYPES:
            base = _StorageKind
        return type("StandIn", (base,), {"origin": name})

    def persistent_load(self, pid: object) -> object:
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":
            # Legacy files add the source text of each module's class; the class is a stand-in already.
            return pid[1]
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
            raise pickle.UnpicklingError("it refers to something outside itself that is no tensor storage")
        kind, key, numel = pid[1], str(pid[2]), pid[4]
        if not (isinstance(kind, type) and issubclass(kind, _StorageKind) and isinstance(numel, int)):
            raise pickle.UnpicklingError(f"tensor storage '{key}' is of an unknown type")
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError(f"tensor storage '{key}' is a view of another, as files before torch 0.4 have")
        return self.storages.setdefault(key, _Storage(key, _STORAGE_DTYPES[kind.origin], numel))


def read_pickled_tensors(path: str | Path) -> TensorFile:
    """Read the tensors of a checkpoint that `torch.save` wrote, running nothing that it holds.

    Reads the zip format and the older one, of a plain `{name: tensor}` mapping, a whole module, or a mapping that holds
    either under "ema", "model" or "state_dict" (the first of these that holds a tensor counts). Names and dtypes come
    as stored, on the CPU; non-persistent buffers are left out. The class names
    are those of the chosen model's attribute or key `names`, or of `names`, `classes` or `CLASSES` at the top level,
    under "meta" or under "dataset_meta" in it.

    Raises InputError if the file cannot be read, is not a whole torch checkpoint, or holds no tensor.
    """
    path = Path(path)
    try:
        with _open_zip(path) if zipfile.is_zipfile(path) else _open_legacy(path) as (root, read_storage):
            model, stored = _choose_model(root)
            tensors = _materialise(stored, read_storage)
            class_names = next(filter(None, map(_class_names, (model, *_descriptions(root)))), None)
    except Exception as error:  # damaged bytes can make any step fail, in ways that the reader need not foresee
        raise InputError(
            f"weights: '{path}' cannot be read as a torch checkpoint ({type(error).__name__}: {error}); expected a "
            "whole .pt or .pth file as torch.save writes it, or .safetensors: download or write it again"
        ) from error
    if not tensors:
        raise InputError(
            f"weights: '{path}' holds no tensor at its top level or under 'ema', 'model' or 'state_dict'; save the "
            "model's state_dict() with torch.save, or as .safetensors, and give that file"
        )
    return TensorFile(path, tensors, class_names)


ReadStorage = Callable[[_Storage], bytes]


@contextmanager
def _open_zip(path: Path) -> Iterator[tuple[object, ReadStorage]]:
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
        pickles = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise ValueError("it is a zip file without a data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        order = archive.read(f"{folder}byteorder").decode() if f"{folder}byteorder" in names else sys.byteorder
        if order != sys.byteorder:
            raise ValueError(f"it was written on a {order}-endian machine")
        root = _InertUnpickler(io.BytesIO(archive.read(pickles[0]))).load()
        yield root, lambda storage: archive.read(f"{folder}data/{storage.key}")


@contextmanager
def _open_legacy(path: Path) -> Iterator[tuple[object, ReadStorage]]:
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            raise ValueError("it is a zip file that is cut off or damaged")
        file.seek(0)
        if [_InertUnpickler(file).load() for _ in range(2)] != [_LEGACY_MAGIC, _LEGACY_PROTOCOL]:
            raise ValueError("it is a pickle, but none that torch wrote")
        system = _InertUnpickler(file).load()
        if not isinstance(system, dict) or system.get("little_endian") is not (sys.byteorder == "little"):
            raise ValueError("it was written on a machine of another byte order")
        unpickler = _InertUnpickler(file)
        root = unpickler.load()
        contents = _legacy_contents(file, unpickler.storages)
        yield root, lambda storage: contents[storage.key]


def _legacy_contents(file: BinaryIO, storages: Mapping[str, _Storage]) -> dict[str, bytes]:
    """Read the data after the objects: a pickled list of keys, then for each key the item count and the bytes."""
    import torch

    contents = {}
    for key in _InertUnpickler(file).load():
        storage = storages[str(key)]
        (numel,) = struct.unpack("=q", file.read(8))
        size = numel * getattr(torch, storage.dtype).itemsize
        contents[storage.key] = file.read(size)
        if len(contents[storage.key]) != size:  # also of a storage that no tensor of the model needs
            raise ValueError("it is cut off")
    return contents


def _materialise(stored: Mapping[str, _StoredTensor], read_storage: ReadStorage) -> dict[str, Tensor]:
    import torch

    flat: dict[_Storage, Tensor] = {}
    tensors = {}
    for name, record in stored.items():
        storage, offset, size, stride = record.args[:4]
        if not isinstance(storage, _Storage):
            raise ValueError(f"tensor '{name}' has no storage")
        if storage not in flat:
            dtype = getattr(torch, storage.dtype)
            data = bytearray(read_storage(storage))
            if len(data) != storage.numel * dtype.itemsize:
                raise ValueError(f"tensor '{name}' is cut off")
            flat[storage] = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        # as_strided refuses what would lie outside of the storage.
        tensors[name] = torch.as_strided(flat[storage], size, stride, offset)  # type: ignore[arg-type]
    return tensors


def _choose_model(root: object) -> tuple[object, dict[str, _StoredTensor]]:
    """Return the first of root's "ema", "model", "state_dict" and root itself that holds tensors, and those."""
    entries = _entries(root)
    for candidate in [*(entries.get(key) for key in ("ema", "model", "state_dict")), root]:
        tensors = dict(_stored_tensors(candidate))
        if tensors:
            return candidate, tensors
    return root, {}


def _stored_tensors(value: object) -> Iterator[tuple[str, _StoredTensor]]:
    if isinstance(value, _StandIn) and "_modules" in value.attributes():
        yield from _module_tensors(value, "", ())
        return
    for name, entry in _entries(value).items():
        tensor = _as_tensor(entry)
        if isinstance(name, str) and tensor is not None:
            yield name, tensor


def _module_tensors(module: _StandIn, prefix: str, above: tuple[int, ...]) -> Iterator[tuple[str, _StoredTensor]]:
    """Yield what `module.state_dict()` would: parameters, persistent buffers, then the same of each child."""
    if id(module) in above:
        raise ValueError(f"module '{prefix}' contains itself")
    attributes = module.attributes()
    hidden = attributes.get("_non_persistent_buffers_set") or ()
    for field in ("_parameters", "_buffers"):
        for name, entry in _entries(attributes.get(field)).items():
            tensor = _as_tensor(entry)
            if tensor is not None and not (field == "_buffers" and name in hidden):
                yield f"{prefix}{name}", tensor
    for name, child in _entries(attributes.get("_modules")).items():
        if isinstance(child, _StandIn):
            yield from _module_tensors(child, f"{prefix}{name}.", (*above, id(module)))


def _entries(value: object) -> Mapping[object, object]:
    """Return the entries of a dict, or of the stand-in of a dict's subclass; nothing for anything else."""
    if isinstance(value, dict):
        return value
    return value.entries if isinstance(value, _StandIn) else {}


def _as_tensor(value: object) -> _StoredTensor | None:
    if isinstance(value, _StoredParameter) and value.args:
        value = value.args[0]
    return value if isinstance(value, _StoredTensor) else None


def _descriptions(root: object) -> Iterator[object]:
    """Yield the places next to the model in which trainers store class names."""
    meta = _entries(root).get("meta")
    yield from (root, _entries(meta).get("dataset_meta"), meta)


def _class_names(holder: object) -> tuple[str, ...] | None:
    """Return the names as a tuple by index, or None if there are none or the indices are not 0..n-1."""
    attributes = holder.attributes() if isinstance(holder, _StandIn) else {}
    found = {**_entries(holder), **attributes}
    names = next((found[key] for key in ("names", "classes", "CLASSES") if key in found), None)
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            return None
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list | tuple) or not names:
        return None
    return tuple(str(name) for name in names)
