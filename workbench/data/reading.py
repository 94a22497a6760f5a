"""Reading pictures that somebody else has made: which files of a folder are pictures, and what a picture holds."""

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
"""What systems leave in folders, beside what begins with a dot, in lower case."""
SEEN_BEFORE = "link to a folder read already"


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder.

    Attributes:
        files: what is read, in natural order (2.png before 10.png).
        left_out: what is not read, and why, in a few words.
        num_hidden: hidden files and folders, and those that systems leave behind; not looked into.
    """

    files: tuple[Path, ...]
    left_out: tuple[tuple[Path, str], ...] = ()
    num_hidden: int = 0

    def line(self, where: Path | str, notes: Iterable[str] = ()) -> str:
        """What was read, what was left out, and what was converted, in one line.

        Args:
            where: the folder, or several in words.
            notes: those of all pictures; equal ones are counted.
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
    """Tell the user, where progress is told too."""
    # a name that is no UTF-8 can be printed nowhere, and one may hold line breaks
    encoding = sys.stdout.encoding or "utf-8"
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    print(line.encode(encoding, errors="backslashreplace").decode(encoding))


def natural_order(name: str) -> tuple[object, ...]:
    """A sort key in which numbers count as numbers: 2.png before 10.png."""
    parts = re.split(r"([0-9]+)", name)
    # by length and then digit by digit: the same order as that of the numbers, of whatever length
    key = [(0, len(p.lstrip("0")), p.lstrip("0")) if i % 2 else (1, 0, p) for i, p in enumerate(parts)]
    return (*key, (-1, 0, name))


def list_pictures(folder: Path, suffixes: tuple[str, ...] = PICTURES, *, recursive: bool = False) -> Listing:
    """The pictures of a folder.

    Links to folders are followed, each folder once.

    Args:
        suffixes: in lower case, of what is read.
        recursive: look into subfolders too.

    Raises:
        UserError: if there is no such folder, or one that may not be read.
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
                left_out.append((path, "no regular file"))
            else:
                files.append(path)
    files.sort(key=lambda path: natural_order(str(path.relative_to(folder))))
    return Listing(tuple(files), tuple(left_out), num_hidden)


def read_pictures(file: Path, white: float | None = None) -> list[Picture]:
    """The pictures in a file: one, but for arrays of several.

    Arrays are H x W, H x W x C, N x H x W, N x H x W x C or N x C x H x W with C 1 or 3. In an .npz each key is a
    picture; or `y` holds N of them, and `names`, if it is there, their names. Floats may be any that are finite: a
    measurement with noise lies outside [0, 1].

    Args:
        white: the value that is white; None: found from type and values (`white_of`).

    Raises:
        UserError: if it cannot be read, or holds no pictures.
    """
    if file.suffix.lower() in ARRAYS:
        from workbench.data.arrays import pictures_in

        return pictures_in(file, white)
    from workbench.data.image_file import read_image

    return [read_image(file, white)]


def same_white(pictures: list[Picture]) -> list[Picture]:
    """Pictures of one folder on one scale, where no white was given.

    What `white_of` finds in one file may be chance. Beside brighter files of 16 bits, one whose highest value is 4095
    is dark; beside darker ones, they all are of 12 bits. Bytes that are 0 and 1 in all files are black and white.
    """
    made = list(pictures)
    for dtype in (np.dtype(np.uint8), np.dtype(np.uint16)):
        alone = {i: white_of(dtype, p.peak) for i, p in enumerate(pictures) if p.dtype == dtype}
        # a file that says itself what is white is left out
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
    """(file, "") of each file, and (file or folder, why) of what is not looked into."""
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
