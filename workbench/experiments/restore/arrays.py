"""Measurements that are no pictures, such as k-space and sinograms: arrays in .npy, .npz and fastMRI's .h5 files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.foreign import readable
from workbench.data.arrays import open_array, read_archive
from workbench.data.reading import list_pictures
from workbench.experiments.restore.pictures import Input, Measured, printable

FASTMRI = (".h5", ".hdf5")
SUFFIXES = (".npy", ".npz", *FASTMRI)
Y, NAMES, KSPACE, MASK = "y", "names", "kspace", "mask"


def read_arrays(path: Path) -> Input:
    """Read measurements from a file, or a folder of files.

    An .npy is y of several images, along the first axis. An .npz has `y`, and perhaps parameters of the operator along
    the same axis (or of length 1, for all) and `names`. An .h5 file is a volume of fastMRI: `kspace` and `mask`.

    Raises:
        UserError: for files that cannot be read, or have other contents.
    """
    files = list_pictures(path, SUFFIXES).files if path.is_dir() else (path,)
    if not files or not path.exists():
        what = "has no" if path.is_dir() else "is no file with"
        raise UserError(f"--input {path} {what} measurements ({', '.join(SUFFIXES)})")
    names, params, of, groups = list[str](), dict[str, Mapping[str, Tensor]](), list[Path](), list[Measured]()
    for file in files:
        own, y, parameters = _read(file)
        names += own
        of += [file] * len(own)
        groups.append(Measured(tuple(own), y))
        if parameters:
            params |= {name: {key: value[i] for key, value in parameters.items()} for i, name in enumerate(own)}
    if len(set(names)) < len(names):
        raise UserError(f"--input {path}: two measurements have the same name")
    if params and len(params) < len(names):
        raise UserError(f"--input {path}: some files have parameters of the operator, others have none")
    number = f"{len(names)} measurement{'' if len(names) == 1 else 's'}"
    line = f"read {number} from {printable(str(path))}"
    return Input(tuple(names), (True,) * len(names), tuple(of), (line,), tuple(groups), params)


def _read(file: Path) -> tuple[list[str], Tensor, dict[str, Tensor]]:
    """(names, y, parameters) of the measurements in a file, along the first axis."""
    suffix = file.suffix.lower()
    if suffix in FASTMRI:
        return _read_fastmri(file)
    arrays = {Y: open_array(file)} if suffix == ".npy" else read_archive(file)
    if Y not in arrays:
        raise UserError(f"{file} has no array y, the measurements; found {', '.join(arrays) or 'none'}")
    y = _tensor(arrays.pop(Y), file, Y)
    given = arrays.pop(NAMES, None)
    if y.ndim < 2 or not len(y):
        raise UserError(f"{file}: y has shape {tuple(y.shape)}, expected measurements along the first axis")
    own = [str(i) for i in range(len(y))] if given is None else [_text(name) for name in given.ravel()]
    if len(own) != len(y):
        raise UserError(f"{file} has {len(y)} measurements, but {len(own)} names")
    parameters = {}
    for key, array in arrays.items():
        value = _tensor(array, file, key)
        if value.ndim == 0 or len(value) not in (1, len(y)):
            raise UserError(
                f"{file}: {key} has shape {tuple(value.shape)}, expected 1 or {len(y)} along the first axis"
            )
        parameters[key] = value.expand(len(y), *value.shape[1:])
    return [f"{file.name}:{name}" for name in own], y, parameters


def _read_fastmri(file: Path) -> tuple[list[str], Tensor, dict[str, Tensor]]:
    """The slices of a volume: k-space on the scale of [0, 1] images, the mask, and the coils' sensitivities.

    They are estimated from the middle of k-space. So is the phase of the image, which becomes a part of them.
    """
    import h5py

    with readable(file, "the volume", remedy="expected a file of fastMRI"), h5py.File(file, "r") as stored:
        if KSPACE not in stored:
            raise UserError(f"{file} has no {KSPACE}; found {', '.join(map(str, stored)) or 'nothing'}")
        kspace = _tensor(np.asarray(stored[KSPACE]), file, KSPACE)
        mask = np.asarray(stored[MASK]).ravel() if MASK in stored else None
    if not kspace.is_complex() or kspace.ndim not in (3, 4):
        raise UserError(
            f"{file}: {KSPACE} has shape {tuple(kspace.shape)}, expected complex slices x (coils x) rows x columns"
        )
    if kspace.ndim == 3:
        kspace = kspace[:, None]
    num_slices, _, height, width = kspace.shape
    if not kspace.numel() or not bool(torch.view_as_real(kspace).isfinite().all()):
        raise UserError(f"{file}: {KSPACE} has no values, or some that are not finite")
    if mask is not None and len(mask) != width:
        raise UserError(f"{file}: {MASK} has {len(mask)} columns, but {KSPACE} has {width}")
    kept = kspace.abs().amax((0, 1, 2)) > 0 if mask is None else torch.from_numpy(mask != 0)
    if not kept[width // 2]:
        raise UserError(f"{file}: the middle of {KSPACE} is not measured")
    maps = sensitivities(kspace, kept)
    images = (_image(kspace * kept) * maps.conj()).sum(1).abs()
    white = float(images.amax())
    if not white > 0:
        raise UserError(f"{file}: {KSPACE} is zero")
    names = [f"{file.name}:{i}" for i in range(num_slices)]
    columns = kept.to(torch.float32).expand(num_slices, 1, height, width)
    return names, kspace / white, {MASK: columns, "coil_maps": maps}


def sensitivities(kspace: Tensor, kept: Tensor) -> Tensor:
    """Complex sensitivities of coils with the smooth phase of the image, root sum of squares 1.

    From the middle of k-space that is measured without a gap, at low resolution, as in SENSE with autocalibration
    (McKenzie et al., Magnetic Resonance in Medicine 47, 2002).

    Args:
        kspace: (slices, coils, height, width), zero frequency in the middle.
        kept: which columns are measured, (width,) bool.
    """
    height, width = kspace.shape[-2:]
    left = right = width // 2
    while left > 0 and kept[left - 1]:
        left -= 1
    while right + 1 < width and kept[right + 1]:
        right += 1
    half = max(1, min(width // 2 - left, right - width // 2, height // 2))
    window = [_hann(size, half) for size in (height, width)]
    low = _image(kspace * (window[0][:, None] * window[1]))
    return low / low.abs().square().sum(1, keepdim=True).sqrt().clamp(min=1e-20)


def _hann(size: int, half: int) -> Tensor:
    """A window of `half` frequencies on each side of the middle."""
    offset = (torch.arange(size) - size // 2).abs() / (half + 1)
    return torch.where(offset < 1, 0.5 + 0.5 * (torch.pi * offset).cos(), 0.0)


def _image(kspace: Tensor) -> Tensor:
    return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace, (-2, -1)), norm="ortho"), (-2, -1))


def _text(name: Any) -> str:
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)


def _tensor(array: Any, file: Path, name: str) -> Tensor:
    """A numeric array in single precision."""
    if array.dtype.kind not in "biufc":
        raise UserError(f"{file}: {name} has type {array.dtype}, expected numbers")
    return torch.from_numpy(array.astype(np.complex64 if array.dtype.kind == "c" else np.float32))
