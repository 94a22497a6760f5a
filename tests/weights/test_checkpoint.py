"""Reading checkpoints: tensors come out as they went in, and nothing that a file names is run."""

import io
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.core.config import UserError
from workbench.weights.checkpoint import read_checkpoint


class Callback:
    """In place of the trainer's objects in real checkpoints, with state and arguments."""

    def __init__(self, best: float) -> None:
        self.best = best

    def __reduce__(self) -> Any:
        return (Callback, (self.best,), {"state": [1, 2]}, iter([3, 4]), iter({"a": 5}.items()))


TENSORS = {
    "plain": torch.arange(6.0).reshape(2, 3),
    "half": torch.ones(3).half(),
    "brain": torch.ones(2).bfloat16(),
    "long": torch.arange(4),
    "flag": torch.tensor([True, False]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "turned": torch.arange(6.0).reshape(2, 3).T,
}


def test_every_tensor_as_it_was_saved(tmp_path: Path) -> None:
    shared = torch.arange(10.0)
    state = OrderedDict(
        TENSORS, first=shared[:5], second=shared[5:], weight=torch.nn.Parameter(torch.ones(2)), step=3, name="x"
    )
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": state, "callbacks": {Callback: Callback(1.5)}, "epoch": 3}, path)
    read = read_checkpoint(path)
    expected = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    assert read.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(read[name], value), name
        assert read[name].dtype == value.dtype


def test_a_bare_state_dict(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "model.bin")
    assert read_checkpoint(tmp_path / "model.bin").keys() == TENSORS.keys()


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.marker}",))


def test_no_code_of_a_file_runs(tmp_path: Path) -> None:
    path, marker = tmp_path / "model.ckpt", tmp_path / "ran"
    torch.save({"trap": Trap(marker), "state_dict": {"weight": torch.ones(2)}}, path)
    assert read_checkpoint(path).keys() == {"weight"}
    assert not marker.exists()


def archive(path: Path, pickled: bytes, **records: bytes) -> Path:
    """A checkpoint with this content."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        for name, content in records.items():
            file.writestr(f"archive/{name}", content)
    return path


def tensor_of(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0, count: int = 4) -> bytes:
    """A pickle of one tensor with these claims about its storage of `count` floats."""

    class Named(pickle.Pickler):
        def persistent_id(self, item: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if item is storage else None

        def reducer_override(self, item: Any) -> Any:
            if item is tensor:
                return (torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict()))
            return NotImplemented

    storage, tensor = object(), object()
    out = io.BytesIO()
    Named(out, 2).dump({"weight": tensor})
    return out.getvalue()


FOUR = struct.pack("<4f", 1, 2, 3, 4)


def test_the_forged_archive_is_read_if_its_claims_are_true(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.ckpt", tensor_of((2, 2), (2, 1)), **{"data/0": FOUR})
    assert torch.equal(read_checkpoint(path)["weight"], torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize(
    ("pickled", "records", "message"),
    [
        (tensor_of((10**6, 10**6), (0, 0)), {"data/0": FOUR}, "has only 4 values"),
        (tensor_of((4,), (1,), offset=2), {"data/0": FOUR}, "cannot read the checkpoint"),
        (tensor_of((4,), (-1,)), {"data/0": FOUR}, "cannot read the checkpoint"),
        (tensor_of((4,), (1,), count=9), {"data/0": FOUR}, "has 16 bytes instead of 36"),
        (tensor_of((4,), (1,)), {}, "cannot read the checkpoint"),
        (pickle.dumps([1, 2]), {}, "holds no named tensors"),
        (b"", {}, "cannot read the checkpoint"),
        (b"\x80\x02cos\nsystem\n(S'true'\ntR.", {}, "holds no named tensors"),
        (tensor_of((4,), (1,)), {"data/0": FOUR, "byteorder": b"big"}, "big-endian"),
        (tensor_of((4,), (1,)), {"data/0": FOUR, "constants.pkl": b""}, "TorchScript"),
    ],
)
def test_a_forged_archive_is_one_line(pickled: bytes, records: dict[str, bytes], message: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "model.ckpt", pickled, **records)
    with pytest.raises(UserError, match=message) as raised:
        read_checkpoint(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_what_is_no_archive_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"is not a zip archive, as torch has saved checkpoints since 1\.6"):
        read_checkpoint(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(UserError, match="is not a zip archive"):
        read_checkpoint(path)
    with pytest.raises(UserError, match="cannot read the checkpoint"):
        read_checkpoint(tmp_path / "none.ckpt")


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(UserError, match="is a compressed archive"):
        read_checkpoint(path)


def test_a_cut_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save(TENSORS, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 40)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as raised:
            read_checkpoint(path)
        assert "\n" not in str(raised.value)
