"""DICOM and NIfTI files are restored into files of the same kind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from command_line import CommandLine, Trained
from degraded_pictures import DONE, table, without_encoder, words
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from workbench.core.config import UserError
from workbench.data.medical import read_medical
from workbench.experiments.restore.journal import JOURNAL
from workbench.experiments.restore.outputs import Outputs
from workbench.experiments.restore.pictures import read_input

LOW, HIGH = -159.5, 240.5
"""The window of centre 41 and width 401."""


def hounsfield(num: int = 1) -> np.ndarray:
    """Slices with air beyond the window, (slice, 16, 16)."""
    values = np.random.default_rng(0).integers(-100, 200, (num, 16, 16)).astype(float)
    values[:, :2] = -1000
    return values


def dicom(path: Path, values: np.ndarray, **more: Any) -> Path:
    """A CT slice as scanners write it: unsigned, with a slope and an intercept."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = Dataset()
    content.file_meta = meta
    content.SOPClassUID, content.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    content.PatientName = "Somebody"
    content.Rows, content.Columns = values.shape[-2:]
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.BitsAllocated = content.BitsStored = 16
    content.HighBit, content.PixelRepresentation = 15, 0
    content.RescaleSlope, content.RescaleIntercept = 0.5, -1024
    content.WindowCenter, content.WindowWidth = 41, 401
    for name, value in more.items():
        setattr(content, name, value)
    slope, intercept = float(content.RescaleSlope), float(content.RescaleIntercept)
    content.PixelData = ((values - intercept) / slope).round().astype("<u2").tobytes()
    content.save_as(path, enforce_file_format=True)
    return path


def nifti(path: Path, values: np.ndarray) -> Path:
    volume = nibabel.Nifti1Image(np.moveaxis(values, 0, 2).astype(np.int16), np.diag([2.0, 2.0, 3.0, 1.0]))
    nibabel.save(volume, path)
    return path


def command(trained: Trained, source: Path, output: Path) -> list[str]:
    return without_encoder(words(trained, source, output, "gaussian_noise"))


def test_the_window_of_a_slice_is_0_to_1(tmp_path: Path) -> None:
    values = hounsfield()[0]
    volume = read_medical(dicom(tmp_path / "a.dcm", values))
    assert (volume.low, volume.high) == (LOW, HIGH)
    inside = (values >= LOW) & (values <= HIGH)
    expected = ((values - LOW) / (HIGH - LOW)).clip(0, 1)
    np.testing.assert_allclose(volume.images()[0], expected, atol=1e-3)
    assert f"values {LOW} to {HIGH} are read as 0 to 1; {100 * (~inside).mean():.1f} % of the" in volume.note()
    inverted = read_medical(dicom(tmp_path / "b.dcm", values, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_allclose(inverted.images()[0], 1 - expected, atol=1e-3)
    for each in (volume, inverted):
        each.write(each.images(), tmp_path / "same.dcm")
        assert np.array_equal(pydicom.dcmread(tmp_path / "same.dcm").pixel_array, each.content.pixel_array)


def test_a_restored_slice_is_a_derived_image(cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    values = hounsfield()[0]
    (tmp_path / "in").mkdir()
    source = dicom(tmp_path / "in" / "a.dcm", values)
    said = cli(*command(trained, tmp_path / "in", tmp_path / "out"))
    assert said.code in DONE, said.err
    assert "values -159.5 to 240.5 are read as 0 to 1" in said.out
    before, after = pydicom.dcmread(source), pydicom.dcmread(tmp_path / "out" / "a.dcm")
    assert after.PatientName == "Somebody"
    assert list(after.ImageType) == ["DERIVED", "SECONDARY"]
    assert after.SOPInstanceUID == after.file_meta.MediaStorageSOPInstanceUID != before.SOPInstanceUID
    made = after.pixel_array * 0.5 - 1024
    assert (made[:2] == -1000).all(), "air is outside the window"
    assert LOW - 0.5 <= made[2:].min() <= made.max() <= HIGH + 0.5
    assert not np.array_equal(made, values)
    assert cli(*command(trained, tmp_path / "in", tmp_path / "png"), "--format=png").code in DONE
    assert (tmp_path / "png" / "a.png").is_file()


@pytest.mark.parametrize("name", ["brain.nii", "brain.nii.gz"])
def test_a_volume_is_restored_slice_by_slice(name: str, cli: CommandLine, trained: Trained, tmp_path: Path) -> None:
    source = nifti(tmp_path / name, hounsfield(3))
    arguments = command(trained, source, tmp_path / "out")
    assert cli(*arguments).code in DONE
    before, after = nibabel.load(source), nibabel.load(tmp_path / "out" / name)
    assert np.array_equal(before.affine, after.affine)
    made = after.get_fdata()
    assert made.shape == (16, 16, 3)
    assert made.min() >= -1000
    assert made.max() <= 200
    assert [row["image"] for row in table(tmp_path / "out")] == [f"{name}:{i}" for i in range(3)]
    assert f"already contains {name}" in cli.refuses(*arguments)


def test_an_interrupted_volume_is_restored_again(
    cli: CommandLine, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for name, number in (("a.nii", 2), ("b.nii", 3)):
        nifti(tmp_path / "in" / name, hounsfield(number) + number)
    write, slices = Outputs.write, list[str]()

    def interrupted(outputs: Outputs, name: str, *more: Any) -> Sequence[str]:
        if len(slices) == 3:
            raise KeyboardInterrupt
        slices.append(name)
        return write(outputs, name, *more)

    arguments = command(trained, tmp_path / "in", tmp_path / "out")
    assert cli(*arguments).code in DONE
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.nii")}
    with monkeypatch.context() as patch:
        patch.setattr(Outputs, "write", interrupted)
        assert cli(*arguments, "--overwrite").code == 130
    for path in (tmp_path / "out").glob("*.nii"):
        if path.name not in (tmp_path / "out" / JOURNAL).read_text():
            path.unlink()
    assert cli(*arguments).code in DONE
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.nii")} == whole


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"cannot read the volume .*a\.dcm") as raised:
        read_medical(tmp_path / "a.dcm")
    assert "\n" not in str(raised.value)
    (tmp_path / "b.nii").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"cannot read the volume .*b\.nii"):
        read_medical(tmp_path / "b.nii")
    with pytest.raises(UserError, match="has the same value everywhere"):
        read_medical(nifti(tmp_path / "c.nii", np.ones((2, 16, 16))))
    with pytest.raises(UserError, match="has no greyscale image"):
        read_medical(dicom(tmp_path / "d.dcm", hounsfield()[0], PhotometricInterpretation="PALETTE COLOR"))


def test_a_folder_of_several_kinds(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", hounsfield()[0])
    nifti(tmp_path / "b.nii.gz", hounsfield(2))
    (tmp_path / "notes.txt.gz").write_bytes(b"")
    images = read_input(tmp_path, 1)
    assert images.names == ("a.dcm", "b.nii.gz:0", "b.nii.gz:1")
    assert "left out 1 (1 .gz)" in images.lines[0]
