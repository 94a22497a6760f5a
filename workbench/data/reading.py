"""Reading other people's images: which files of a folder are images, and what an image file contains."""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from workbench.core.config import UserError
from workbench.core.foreign import readable
from workbench.data.picture import NEARLY_BLACK, Picture, white_of

__all__ = ["ARRAYS", "PICTURES", "Listing", "Picture", "list_pictures", "natural_order", "read_pictures", "same_white"]

PICTURES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".gif", ".tga"),
    *(".pgm", ".ppm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".avif"),
)
ARRAYS = (".npy", ".npz")
SYSTEM_FILES = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "icon\r"}
"""Files that operating systems leave in folders, besides hidden ones, in lower case."""
SEEN_BEFORE = "link to a folder that was already read"


@dataclass(frozen=True)
class Listing:
    """The images of a folder.

    Attributes:
        files: files to read, in natural order (2.png before 10.png).
        left_out: files that are not read, each with a short reason.
        num_hidden: number of hidden files and folders, and of those that operating systems leave; never opened.
    """

    files: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...] = ()
    num_hidden: int = 0

    def line(self, where: Path | str, notes: Iterable[str] = ()) -> str:
        """One line about what was read, left out and converted.

        Args:
            where: the folder, or several folders in words.
            notes: notes of all images; equal ones are counted.
        """
        reasons = Counter(why for _, why in self.left_out)
        if self.num_hidden:
            reasons["hidden"] = self.num_hidden
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        line = f"read {_images(len(self.files))} from {where}, left out {reasons.total()}{f' ({why})' if why else ''}"
        return line + "".join(f"; {count}: {note}" for note, count in Counter(notes).most_common())

    def __add__(self, other: "Listing") -> "Listing":
        return Listing(self.files + other.files, self.left_out + other.left_out, self.num_hidden + other.num_hidden)


def say(line: str) -> None:
    """Print a line where progress is printed."""
    # a name may contain line breaks, or bytes that are not UTF-8 and cannot be printed
    encoding = sys.stdout.encoding or "utf-8"
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    print(line.encode(encoding, errors="backslashreplace").decode(encoding))


def natural_order(name: str) -> tuple[object, ...]:
    """A sort key that compares numbers by value: 2.png before 10.png."""
    parts = re.split(r"([0-9]+)", name)
    # by length and then by digits: this is numeric order for numbers of any length
    key = [(0, len(p.lstrip("0")), p.lstrip("0")) if i % 2 else (1, 0, p) for i, p in enumerate(parts)]
    return (*key, (-1, 0, name))


def list_pictures(folder: Path, suffixes: tuple[str, ...] = PICTURES, *, recursive: bool = False) -> Listing:
    """List the images of a folder.

    Links to folders are followed, each folder once.

    Args:
        suffixes: lower-case suffixes of the files to read.
        recursive: also search subfolders.

    Raises:
        UserError: if the folder does not exist or is not readable.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    files: list[Path] = []
    left_out: list[tuple[Path, str]] = []
    num_hidden = 0
    unknown = {suffix for suffix in suffixes if suffix in PICTURES} - _known_to_pillow()
    with readable(folder, "the folder"):
        for path, why in _walk(folder, recursive):
            suffix = path.suffix.lower()
            if why == "hidden":
                num_hidden += 1
            elif why:
                left_out.append((path, why))
            elif suffix in unknown:
                left_out.append((path, f"{suffix} (this Pillow cannot read it)"))
            elif suffix not in suffixes:
                left_out.append((path, suffix or "without suffix"))
            elif path.exists() and not path.is_file():
                left_out.append((path, "not a regular file"))
            else:
                files.append(path)
    files.sort(key=lambda path: natural_order(str(path.relative_to(folder))))
    return Listing(tuple(files), tuple(left_out), num_hidden)


def read_pictures(file: Path, white: float | None = None, channels: int | None = None) -> list[Picture]:
    """Read the images in a file: one, or several if it is an array file.

    Arrays are H x W, H x W x C, N x H x W, N x H x W x C or N x C x H x W, where C is 1 or 3, or `channels`. Each key
    of an .npz is one image; or `y` has N images, and `names`, if present, their names. Floats may have any finite
    values: a noisy measurement exceeds [0, 1].

    Args:
        white: the value of white; None: inferred from dtype and values (`white_of`).
        channels: of arrays, if not 1 or 3.

    Raises:
        UserError: if the file cannot be read, or has no images.
    """
    if file.suffix.lower() in ARRAYS:
        from workbench.data.arrays import pictures_in

        return pictures_in(file, white, channels)
    from workbench.data.image_file import read_image

    return [read_image(file, white)]


def same_white(pictures: list[Picture]) -> list[Picture]:
    """Put the images of a folder on one scale, if no white was given.

    What `white_of` finds in a single file may be a coincidence. Among brighter 16-bit files, a file with a highest
    value of 4095 is dark; among darker ones, all files have 12 bits. Bytes that are 0 and 1 in all files are black and
    white.
    """
    made = list(pictures)
    for dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        alone = {i: white_of(dtype, p.peak) for i, p in enumerate(pictures) if p.dtype == dtype}
        # files that declare their white are left out
        chosen = [i for i, (white, _) in alone.items() if pictures[i].white in (white, 255)]
        if not chosen:
            continue
        white, notes = white_of(dtype, max(pictures[i].peak for i in chosen))
        for i in chosen:
            others = tuple(note for note in pictures[i].notes if note not in alone[i][1])
            others += (NEARLY_BLACK,) if dtype == np.uint8 and white == 255 and pictures[i].peak == 1 else ()
            made[i] = replace(pictures[i].with_white(white), notes=(*others, *notes))
    return made


def _walk(folder: Path, recursive: bool) -> Iterator[tuple[Path, str]]:
    """(file, "") for each file, and (file or folder, reason) for each one that is skipped."""
    seen: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        here = pending.pop()
        with readable(here, "the folder"):
            status = here.stat()
            paths = sorted(here.iterdir(), key=lambda path: natural_order(path.name))
        if (status.st_dev, status.st_ino) in seen:
            yield here, SEEN_BEFORE
            continue
        seen.add((status.st_dev, status.st_ino))
        folders = []
        for path in paths:
            if path.name.startswith(".") or path.name.lower() in SYSTEM_FILES:
                yield path, "hidden"
            elif not path.is_dir():
                yield path, ""
            elif recursive:
                folders.append(path)
            else:
                yield path, "folder"
        pending += reversed(folders)


def _known_to_pillow() -> set[str]:
    from PIL import Image

    return {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
