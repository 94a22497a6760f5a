"""Writing restored images: nothing is overwritten unasked, written through a link, or partially written."""

import csv
import os
import tempfile
import unicodedata
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from workbench.core.config import UserError
from workbench.core.files import FULL, PARTIAL, whole
from workbench.data.preparation import LUMA
from workbench.experiments.restore.journal import JOURNAL, Journal
from workbench.experiments.restore.pictures import Input, parts, printable, some

REPORT = "restored.csv"
Format = Literal["png", "npy"]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a cell that spreadsheets interpret as a formula."""


class Outputs:
    """The files of the restored images, checked before anything is computed.

    Args:
        folder: the output folder; created by `make`.
        input_path: the folder or file of the input images.
        measured: the input images.
        file_format: png: 8 bits; npy: float32, (height, width) or (height, width, channel); None: png, or for DICOM and
            NIfTI the format of the input.
        overwrite: whether existing files may be overwritten.

    Raises:
        UserError: for names that clash, existing files, or inputs that would be overwritten.
    """

    def __init__(
        self, folder: Path, input_path: Path, measured: Input, file_format: Format | None, *, overwrite: bool
    ) -> None:
        self.folder, self.format = folder, file_format or "png"
        self.volumes = measured.volumes if file_format is None else {}
        self._slices: dict[Path, tuple[dict[int, np.ndarray], dict[str, Any]]] = {}
        if folder.is_dir() and input_path.is_dir() and folder.samefile(input_path):
            raise UserError(f"--output {folder} is the input folder: its images would be overwritten")
        self.files = {name: self._file(name) for name in measured.names}
        self._is_grey = dict(zip(measured.names, measured.grey, strict=True))
        self._refuse_clashes(measured)
        self._measured, self._overwrite = measured, overwrite
        self.journal = None if overwrite or not folder.is_dir() else Journal.read(folder)
        if folder.is_dir() and self.journal is None:
            self._refuse_present()

    def continued(self, settings: str, keys: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """The rows of images that an interrupted run of the same request has restored, by name.

        Args:
            settings: digest of what all images depend on.
            keys: image -> digest of what else it depends on.

        Raises:
            UserError: for an interrupted run of another request, or somebody else's files.
        """
        before = self.journal
        if before is None:
            self.journal = Journal(self.folder / JOURNAL, settings)
            return {}
        remedy = "add --overwrite to start again, or choose another --output"
        if not before.settings:
            raise UserError(f"{before.path} is in the way: remove it")
        if not before.digests:  # it has not come to its first image
            before.remove()
            self.journal = Journal(before.path, settings)
            self._refuse_present()
            return {}
        if before.settings != settings:
            raise UserError(f"--output {self.folder} has an interrupted run with other settings: {remedy}")
        changed = [name for name, key in keys.items() if before.entries.get(name, {"key": key})["key"] != key]
        if changed:
            raise UserError(
                f"{some(changed)}, or the severity or parameters, changed since the run that was interrupted in "
                f"--output {self.folder}: {remedy}"
            )
        own = {file for file in before.digests if before.is_own(self.folder / file)}
        self._refuse_present(own)
        done = [name for name in keys if name in before.entries and self.files[name] in own]
        return {name: before.entries[name]["row"] for name in done}

    def make(self) -> None:
        """Create the folder and test that it is writable.

        Raises:
            UserError: if it is not writable.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(bytes(1))
                file.flush()
            longest = max(map(len, map(os.fsencode, (*self.files.values(), REPORT)))) + len(PARTIAL)
            if longest > (limit := os.pathconf(self.folder, "PC_NAME_MAX")):
                raise UserError(
                    f"--output {self.folder} allows names of {limit} bytes, but one has {longest}: shorten it"
                )
            if self.journal is not None:
                if self._overwrite:
                    self.journal.remove()  # of an earlier run
                self.journal.begin()
        except OSError as error:
            raise UserError(f"--output {self.folder} cannot be written ({error.strerror})") from None

    @property
    def what_follows(self) -> str:
        """What the same command does after an interruption."""
        return "starts again" if self._overwrite else "continues with the others"

    def write(self, name: str, x_hat: Tensor, entry: Mapping[str, Any] | None = None) -> Sequence[str]:
        """Write a restored (channel, height, width) image on [0, 1]; greyscale if the input was.

        Args:
            entry: its entry in the journal.

        Returns:
            The images that are written by now: none of a volume before its last slice.
        """
        from PIL import Image

        entries = {} if entry is None else {name: entry}

        pixels = x_hat.permute(1, 2, 0).numpy()
        if pixels.shape[2] == 3 and self._is_grey[name]:
            pixels = pixels @ LUMA[:, None]
        if pixels.shape[2] == 1:
            pixels = pixels[..., 0]
        if name in self.volumes:
            return self._write_slice(name, pixels, entries)
        with self._writing(self.files[name], entries) as partial:
            if self.format == "npy":
                with partial.open("wb") as file:
                    np.save(file, pixels.astype(np.float32))
            else:
                # rounded like torchvision's save_image
                Image.fromarray((pixels * 255 + 0.5).clip(0, 255).astype(np.uint8)).save(partial, "PNG")
        return (name,)

    def _write_slice(self, name: str, pixels: np.ndarray, entries: Mapping[str, Any]) -> Sequence[str]:
        """Write a volume once it has all of its slices."""
        file, volume, number = self.volumes[name]
        there, known = self._slices.setdefault(file, ({}, {}))
        there[number] = pixels
        known |= entries
        if len(there) == len(volume.values):
            with self._writing(self.files[name], known) as partial:
                volume.write(np.stack([there[i] for i in range(len(there))]), partial)
            del self._slices[file]
            return [other for other, (path, *_) in self.volumes.items() if path == file]
        return ()

    def _file(self, name: str) -> str:
        return self.volumes[name][0].name if name in self.volumes else output_name(name, self.format)

    def write_report(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a table with one row per image; cells that a spreadsheet would interpret as a formula start with '."""
        with self._writing(REPORT, {}) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
            file.flush()

    def finish(self) -> None:
        """Nothing is left to continue."""
        if self.journal is not None:
            self.journal.remove()

    @contextmanager
    def _writing(self, name: str, entries: Mapping[str, Any]) -> Iterator[Path]:
        path = self.folder / name
        try:
            with whole(path) as partial:
                yield partial
                if self.journal is not None and self.journal.path.is_file():
                    self.journal.add(name, partial, entries)
        except OSError as error:
            what = "has no space left" if error.errno in FULL else "cannot be written"
            raise UserError(
                f"--output {self.folder} {what} ({error.strerror}) at {printable(name)}: fix this and run the same "
                "command again"
            ) from error

    def _refuse_clashes(self, measured: Input) -> None:
        taken: dict[str, str] = {}
        for name, file in self.files.items():
            # some file systems do not distinguish A and a, or different encodings of an accent
            other = taken.setdefault(unicodedata.normalize("NFC", file).casefold(), name)
            if other != name and not self._share_volume(name, other):
                both = f"{printable(other)} and {printable(name)}"
                raise UserError(f"--input: {both} would both become {printable(self.files[other])}")
        if len(self.files) < len(measured.names):
            raise UserError("--input: two images have the same name")

    def _share_volume(self, name: str, other: str) -> bool:
        """Whether both are slices of one file."""
        return name in self.volumes and other in self.volumes and self.volumes[name][0] == self.volumes[other][0]

    def _refuse_present(self, own: Container[str] = ()) -> None:
        """Refuse files that would be overwritten unasked, or never must be; `own` were written by this request."""
        wanted = [*dict.fromkeys(self.files.values()), REPORT]
        present = [name for name in wanted if name not in own and os.path.lexists(self.folder / name)]
        if present == [REPORT] and own:
            raise UserError(f"{self.folder / REPORT} was changed since the run that was interrupted: move it away")
        if present and not self._overwrite:
            raise UserError(
                f"--output {self.folder} already contains {some(present)} ({len(present)} of {len(wanted)} files): "
                "add --overwrite to replace them, or choose another --output"
            )
        files = set(self._measured.files) if present else ()
        inputs = {(status.st_dev, status.st_ino) for status in map(Path.stat, files)}
        for name in present:
            path = self.folder / name
            status = path.lstat()
            if path.is_dir() and not path.is_symlink():
                raise UserError(f"--output {path} is a folder, but an image must be written there")
            if (status.st_dev, status.st_ino) in inputs:
                raise UserError(f"--output {path} is an input and would be overwritten")
        # a partial file of an earlier run; writing would follow a link there
        for name in (*wanted, JOURNAL):
            partial = self.folder / f"{name}{PARTIAL}"
            if partial.is_symlink() or partial.is_dir():
                raise UserError(f"{partial} is in the way: remove it")


def output_name(name: str, file_format: Format) -> str:
    """The file name of a restored image: a.png for a.tif, y_3.png for y.npy:3."""
    return f"{'_'.join(part for part in parts(name) if part).translate(NO_FOLDERS)}.{file_format}"


NO_FOLDERS = str.maketrans("/\\\0", "___")


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(FORMULA) else text
