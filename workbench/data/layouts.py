"""Folders of well-known data sets as they are published: which files are the images, and which are the test images."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from workbench.core.config import UserError
from workbench.core.foreign import readable
from workbench.data.reading import Listing, list_pictures

FFHQ_VARIANTS = ("images1024x1024", "thumbnails128x128")
"""Aligned images of FFHQ (arXiv 1812.04948), the larger ones first; the others are the same photographs."""
FFHQ_TEST = 60_000
"""The number of the first validation image, by the data set's own metadata."""
CELEBA_HQ, CELEBA_MAPPING = "CelebA-HQ-img", "CelebA-HQ-to-CelebA-mapping.txt"
CELEBA_TEST = 182_638
"""The number of CelebA's first test image; CelebA-HQ's images keep the split of those that they were made from."""
IMAGENET = Path("ILSVRC") / "Data" / "CLS-LOC"
SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Layout:
    """The images of a folder.

    Attributes:
        parts: the folders of the training and the test images, or only one of all images.
        listings: their files.
        note: what to tell the user about it.
    """

    parts: list[Path]
    listings: list[Listing]
    note: str = ""


def recognised(folder: Path) -> Layout | None:
    """The layout of FFHQ, CelebA-HQ or ImageNet; None for another folder."""
    return _ffhq(folder) or _celeba_hq(folder) or _imagenet(folder)


def _ffhq(folder: Path) -> Layout | None:
    """`images1024x1024/00000/00000.png` or `thumbnails128x128/...`; the last 10,000 of 70,000 are for validation."""
    found = [name for name in FFHQ_VARIANTS if (folder / name).is_dir()]
    if not found:
        return None
    listing = list_pictures(folder / found[0], recursive=True)
    is_test = {
        file: file.stem.isascii() and file.stem.isdigit() and int(file.stem) >= FFHQ_TEST for file in listing.files
    }
    return _divided(folder / found[0], listing, is_test, "FFHQ", f"from {FFHQ_TEST} on")


def _celeba_hq(folder: Path) -> Layout | None:
    """`CelebA-HQ-img/0.jpg` beside masks (CelebAMask-HQ), with the number of each image in CelebA."""
    images, mapping = folder / CELEBA_HQ, folder / CELEBA_MAPPING
    if not images.is_dir():
        return None
    listing = list_pictures(images)
    numbers: dict[str, int] = {}
    if mapping.is_file():
        with readable(mapping, "the mapping to CelebA"):
            for line in mapping.read_text(encoding="utf-8").splitlines():
                words = line.split()
                if len(words) == 3 and words[0].isdigit() and words[2].partition(".")[0].isdigit():
                    numbers[words[0]] = int(words[2].partition(".")[0])
    if mapping.is_file() and (missing := sum(file.stem not in numbers for file in listing.files)):
        raise UserError(f"{mapping} lacks {missing} of the {len(listing.files)} images: obtain it again, or remove it")
    is_test = {file: numbers.get(file.stem, 0) >= CELEBA_TEST for file in listing.files}
    return _divided(images, listing, is_test, "CelebA-HQ", "those of CelebA's")


def _imagenet(folder: Path) -> Layout | None:
    """`train/n01440764/*.JPEG` and `val`, which is for the test: the labels of `test` are not published."""
    root = folder / IMAGENET if (folder / IMAGENET).is_dir() else folder
    train, val = root / "train", root / "val"
    if not (train.is_dir() and val.is_dir()):
        return None
    with readable(train, "the folder"):
        synsets = [path for path in train.iterdir() if path.is_dir() and not path.name.startswith(".")]
    if 2 * sum(SYNSET.fullmatch(path.name) is not None for path in synsets) <= len(synsets):  # lost+found may be there
        return None
    listings = [list_pictures(part, recursive=True) for part in (train, val)]
    return Layout([train, val], listings, "; ImageNet: train train, test val")


def _divided(folder: Path, listing: Listing, is_test: dict[Path, bool], name: str, what: str) -> Layout:
    """The images of one folder of a data set, some of them for the test."""
    others = sorted(p.name for p in folder.parent.iterdir() if p.is_dir() and p != folder and p.name[0] != ".")
    beside = f"; not read: {', '.join(others)}" if others else ""
    train, test = (tuple(file for file in listing.files if is_test[file] is held_out) for held_out in (False, True))
    if not train or not test:
        return Layout([folder], [listing], f"; {name}: all images are split by content{beside}")
    note = f"; {name}: train {len(train):,}, test {len(test):,} ({what}){beside}"
    return Layout([folder, folder], [replace(listing, files=train), Listing(test)], note)
