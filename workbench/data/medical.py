"""Slices of DICOM and NIfTI files as images on [0, 1], and the same files with other pixels.

Values are those of the modality (Hounsfield units ...): stored ones times slope plus intercept. The file's window is
what becomes [0, 1]; without one, it is the range of the values. Values outside the window are clipped. A file that is
written keeps them.
"""

import gzip
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from workbench.core.config import UserError
from workbench.core.foreign import readable

DICOM, NIFTI = (".dcm", ".dicom", ".ima"), (".nii", ".nii.gz")
MAX_VALUES = 2**31
"""Of a volume that is read into memory."""
DERIVED = "Restored by the Severity Workbench: not for diagnosis"


def is_medical(file: Path) -> bool:
    """Whether the name is that of a DICOM or NIfTI file."""
    return file.name.lower().endswith((*DICOM, *NIFTI))


def read_medical(file: Path) -> "Volume":
    """Read the slices of a file.

    Raises:
        UserError: if it cannot be read, its pixels are no grey images, or the package that reads it is missing.
    """
    kind = Nifti if file.name.lower().endswith(NIFTI) else Dicom
    try:
        from nibabel.filebasedimages import ImageFileError
        from nibabel.spatialimages import HeaderDataError
        from pydicom.errors import InvalidDicomError

        with readable(file, "the volume", ImageFileError, HeaderDataError, InvalidDicomError):
            return kind.read(file)
    except ImportError as error:
        raise UserError(f"{file}: reading it needs {error.name}: pip install pydicom nibabel") from None


@dataclass(frozen=True)
class Volume(ABC):
    """The slices of a file.

    Attributes:
        content: the file as its library reads it.
        values: (slice, height, width), of the modality.
        low, high: the window.
    """

    content: Any
    values: np.ndarray
    low: float
    high: float

    @classmethod
    @abstractmethod
    def read(cls, file: Path) -> Self:
        """Read a file."""

    @abstractmethod
    def save(self, values: np.ndarray, path: Path) -> None:
        """Write the file with other values."""

    def images(self) -> np.ndarray:
        """(slice, height, width) on [0, 1], float32."""
        return ((self.values - self.low) / (self.high - self.low)).clip(0, 1).astype(np.float32)

    def write(self, images: np.ndarray, path: Path) -> None:
        """Write the file with other images; what was outside the window stays."""
        if images.shape != self.values.shape:
            raise UserError(
                f"restored slices have {images.shape[1:]} pixels, those of the file {self.values.shape[1:]}: "
                "add --format npy or png"
            )
        inside = (self.values >= self.low) & (self.values <= self.high)
        self.save(np.where(inside, self.low + images * (self.high - self.low), self.values), path)

    def note(self) -> str:
        """What was converted."""
        outside = float(((self.values < self.low) | (self.values > self.high)).mean())
        clipped = f"; {100 * outside:.1f} % of the values are outside and kept" if outside else ""
        return f"values {self.low:.6g} to {self.high:.6g} are read as 0 to 1{clipped}"


class Dicom(Volume):
    """A DICOM file with one greyscale frame or several."""

    @classmethod
    def read(cls, file: Path) -> Self:
        import pydicom
        from pydicom.pixels.processing import apply_rescale
        from pydicom.uid import ExplicitVRBigEndian

        content = pydicom.dcmread(file)
        is_grey = content.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
        if not is_grey or content.get("SamplesPerPixel", 1) != 1 or "PixelData" not in content:
            raise UserError(f"{file} has no greyscale image")
        if content.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
            raise UserError(f"{file} is big-endian, which DICOM has retired: convert it first")
        if "ModalityLUTSequence" in content:
            raise UserError(f"{file} has a table of modality values: not supported, use files with a rescale slope")
        for name in ("RescaleSlope", "RescaleIntercept", "NumberOfFrames"):
            if name in content and content[name].value in (None, ""):
                del content[name]
        if content.Rows * content.Columns * int(content.get("NumberOfFrames", 1)) > MAX_VALUES:
            raise UserError(f"{file} is too large")
        values = np.asarray(apply_rescale(content.pixel_array, content), np.float64)
        values = values if values.ndim == 3 else values[None]
        low, high = _range(values, file)
        window = [content[name].value for name in ("WindowCenter", "WindowWidth") if name in content]
        if len(window) == 2 and None not in window and "" not in window:
            centre, width = map(_first, window)
            if width > 1:  # DICOM part 3, C.11.2.1.2
                low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
        return cls(content, values, low, high)

    def images(self) -> np.ndarray:
        images = super().images()
        return 1 - images if self._is_inverted else images

    def write(self, images: np.ndarray, path: Path) -> None:
        super().write(1 - images if self._is_inverted else images, path)

    @property
    def _is_inverted(self) -> bool:
        return bool(self.content.get("PhotometricInterpretation") == "MONOCHROME1")

    def save(self, values: np.ndarray, path: Path) -> None:
        import copy

        from pydicom.uid import ExplicitVRLittleEndian, generate_uid

        content = copy.deepcopy(self.content)
        slope, intercept = 1.0, 0.0
        if "RescaleSlope" in content and "RescaleIntercept" in content:  # pydicom applies both or none
            slope, intercept = float(content.RescaleSlope), float(content.RescaleIntercept)
        bits, signed = int(content.BitsStored), bool(content.PixelRepresentation)
        least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        dtype = np.dtype(f"<{'i' if signed else 'u'}{int(content.BitsAllocated) // 8}")
        stored = ((values - intercept) / slope).round().clip(least, most).astype(dtype)
        stored = stored if int(content.get("NumberOfFrames", 1)) > 1 else stored[0]
        if content.file_meta.TransferSyntaxUID.is_compressed:
            content.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        content.PixelData = stored.tobytes()
        content["PixelData"].is_undefined_length = False
        content["PixelData"].VR = "OW" if dtype.itemsize > 1 else "OB"
        for name in ("SmallestImagePixelValue", "LargestImagePixelValue"):
            if name in content:
                del content[name]
        kind = list(content.get("ImageType", ["ORIGINAL", "PRIMARY"]))
        content.ImageType = ["DERIVED", "SECONDARY", *kind[2:]]
        content.DerivationDescription = DERIVED
        # a derived image is an image of its own
        content.SOPInstanceUID = content.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        content.save_as(path, enforce_file_format=True)


class Nifti(Volume):
    """A NIfTI volume; slices are along its third axis."""

    @classmethod
    def read(cls, file: Path) -> Self:
        import nibabel

        content: Any = nibabel.load(file)
        shape = content.shape
        if np.dtype(content.get_data_dtype()).kind not in "biuf" or 0 in shape:
            raise UserError(f"{file} holds no grey values: {np.dtype(content.get_data_dtype())}, {tuple(shape)}")
        if len(shape) not in (2, 3):
            raise UserError(f"{file} has {len(shape)} axes {tuple(shape)}, expected a volume of three")
        if int(np.prod(shape)) > MAX_VALUES:
            raise UserError(f"{file} is too large")
        values = np.asarray(content.get_fdata(dtype=np.float32), np.float64)
        values = values[None] if len(shape) == 2 else np.moveaxis(values, 2, 0)
        low, high = _range(values, file)
        if content.header["cal_max"] > content.header["cal_min"]:
            low, high = float(content.header["cal_min"]), float(content.header["cal_max"])
        return cls(content, values, low, high)

    def save(self, values: np.ndarray, path: Path) -> None:
        array = np.moveaxis(values, 0, 2) if len(self.content.shape) == 3 else values[0]
        header = self.content.header.copy()
        header.set_data_dtype(np.float32)
        header["descrip"] = DERIVED[:79].encode()
        made: Any = type(self.content)(array.astype(np.float32), self.content.affine, header)
        whole = made.to_bytes()
        is_compressed = str(self.content.get_filename()).lower().endswith(".gz")
        path.write_bytes(gzip.compress(whole, mtime=0) if is_compressed else whole)


def _range(values: np.ndarray, file: Path) -> tuple[float, float]:
    if not np.isfinite(values).all():
        raise UserError(f"{file} has values that are not finite")
    low, high = float(values.min()), float(values.max())
    if low == high:
        raise UserError(f"{file} has the same value everywhere")
    return low, high


def _first(value: Any) -> float:
    """A number, or the first of several."""
    return float(value if isinstance(value, int | float | str) or not hasattr(value, "__len__") else value[0])
