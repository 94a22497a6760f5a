"""The tensors of a checkpoint saved by torch, read without running anything that the file names.

A checkpoint is a pickle, which may call any function when it is loaded. torch's `weights_only` refuses such files as a
whole, and real ones are refused by it: they hold the trainer's own objects beside the weights. Here only tensors and
plain containers are built. Every other object becomes an inert placeholder, and nothing is imported.
"""

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.foreign import readable

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""The types of stored values, by torch's names for them."""
NESTS = ("state_dict", "model", "module")
"""The keys under which trainers store the weights."""


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The named tensors of a checkpoint, on the CPU: its state dict.

    Raises:
        UserError: if the file is missing or damaged, was saved by torch before 1.6, or holds no named tensors.
    """
    with readable(path, "the checkpoint", SafetensorError, remedy="download it again"):
        if path.suffix == ".safetensors":
            return load_file(path)
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise UserError(
                    f"{path} is not a zip archive, as torch has saved checkpoints since 1.6: if it is an older one, "
                    "load it with torch where you trust it, and save it again"
                )
        with zipfile.ZipFile(path) as archive:
            tensors = _named_tensors(_unpickled(archive, path))
    if not tensors:
        raise UserError(
            f"{path} holds no named tensors: expected a state dict, or a dict that has one under state_dict"
        )
    return tensors


class _Inert:
    """In place of every object that is not a tensor or a plain container; nothing of it is used."""

    def __new__(cls, *_: Any, **__: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> "_Inert":
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Ignore an item of a list's subclass."""

    def extend(self, items: Any) -> None:
        """Ignore the items of a list's subclass."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Builds tensors from the records of an archive, and no other objects.

    Args:
        records: the contents of each storage, by key.
    """

    def __init__(self, pickled: bytes, records: "_Records") -> None:
        super().__init__(io.BytesIO(pickled), encoding="utf-8")
        self.records = records

    def find_class(self, module: str, name: str) -> Any:
        """What a name in the file stands for. Nothing is imported."""
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return _tensor
            case "torch._utils", "_rebuild_parameter":
                return _parameter
            case "torch", storage if storage in DTYPES:
                return DTYPES[storage]
        return _Inert

    def persistent_load(self, pid: Any) -> Any:
        """A storage: all of its values, (n,)."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype) or type(count) is not int:
            raise pickle.UnpicklingError("a stored value is of an unknown type")
        return self.records.storage(str(key), dtype, count)


class _Records:
    """The stored values of an archive. Each storage is read once: tensors may share one."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self.archive, self.folder = archive, folder
        self.read: dict[str, Tensor] = {}

    def storage(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        if key not in self.read:
            content = bytearray(self.archive.read(f"{self.folder}data/{key}"))
            self.read[key] = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0).byte()
        values = self.read[key]
        if len(values) != count * dtype.itemsize:
            raise ValueError(f"storage {key[:40]} has {len(values)} bytes instead of {count * dtype.itemsize}")
        return values.view(dtype)


def _unpickled(archive: zipfile.ZipFile, path: Path) -> Any:
    pickled = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    if len(pickled) != 1:
        raise UserError(f"{path} is not a checkpoint: it has {len(pickled)} files data.pkl instead of one")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise UserError(f"{path} is a compressed archive, which torch does not write: not read")
    folder = pickled[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in archive.namelist():
        raise UserError(f"{path} is a TorchScript program, not a checkpoint: not read")
    order = f"{folder}byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise UserError(f"{path} was saved on a big-endian machine: save it again on this one")
    return _Unpickler(archive.read(pickled[0]), _Records(archive, folder)).load()


def _tensor(values: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A view of a storage, (n,), as a contiguous tensor."""
    if not isinstance(values, Tensor) or values.ndim != 1:
        raise ValueError("a tensor without stored values")
    # a view may repeat values without end: stride 0
    if math.prod(size) > len(values):
        raise ValueError(f"a tensor of shape {tuple(size)} has only {len(values)} values")
    return values.as_strided(size, stride, offset)


def _parameter(values: Any, *_: Any) -> Any:
    return values


def _named_tensors(content: Any) -> dict[str, Tensor]:
    for nest in NESTS:
        inner = content.get(nest) if isinstance(content, Mapping) else None
        if isinstance(inner, Mapping):
            return _named_tensors(inner)
    items = content.items() if isinstance(content, Mapping) else ()
    return {name: value for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}
