"""The base class of image sources: images of one size, split by content, identified by a fingerprint of the content."""

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from torch import Tensor

from workbench.core.bounds import MAX_SIZE
from workbench.core.config import UserError, digest, plain
from workbench.core.families import Member, attempt
from workbench.core.places import at_home
from workbench.core.tensors import Ids, Images

Split = Literal["train", "val", "test"]
_Side = Annotated[int, Field(ge=8, le=MAX_SIZE)]
ImageSize = Annotated[
    Annotated[_Side, Tag("side")] | Annotated[tuple[_Side, _Side], Tag("sides")],
    Discriminator(lambda size: "sides" if isinstance(size, list | tuple) else "side"),
    AfterValidator(lambda size: size[0] if isinstance(size, tuple) and size[0] == size[1] else size),
]
"""Pixels a side of square images, or (height, width) of others."""
GivenPath = Annotated[
    Path, BeforeValidator(lambda path: at_home(str(path)) if isinstance(path, int | str | Path) else path)
]
"""A user's file or folder, which may be called 2024, or be in ~."""
MAX_CHANNELS = 1024
BATCH_SIDE = 64
"""Pixels a side of the largest images of which as many are computed with at once as of any smaller ones."""
PictureChannels = Annotated[Literal[1, 3], Field(description="1: greyscale, 3: colour; images are converted")]
"""Of sources whose images are pictures."""

MIN_IMAGES = 20
"""Minimum number of distinct images for a train, a val and a test part."""
TEST_PART = 10
"""One image in this many goes to test if a source has no official test split."""
VAL_PART = 12
"""One image in this many of those not in test goes to val."""


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """One split, ordered by id, so that neither file names nor file order matter.

    Attributes:
        store: (M, H, W, C) uint8, or float32 on [0, 1], in the order of the source; may be memory-mapped and may
            include other splits.
        rows: (N,) positions in `store` of the images of this split, in the order of `ids`.
        ids: (N,) content hashes of the images, ascending and unique.
        name: name of the split.
    """

    store: np.ndarray
    rows: np.ndarray
    ids: Ids
    name: Split

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, most: int) -> tuple[Ids, ...]:
        """The positions of all images, in order: at most `most` images at once, and fewer large ones."""
        return torch.arange(len(self)).split(at_once(most, self.store.shape[1], self.store.shape[2]))

    @functools.cached_property
    def fingerprint(self) -> str:
        """12 hex digits of a hash over the ordered ids, which identifies the split by its content."""
        return hashlib.sha256(self.ids.numpy().astype("<i8").tobytes()).hexdigest()[:12]

    @property
    def images(self) -> np.ndarray:
        """All images as one (N, H, W, C) array, uint8 or float32 on [0, 1]: a copy in memory."""
        return np.asarray(self.store[self.rows])

    def batch(self, index: Tensor | Sequence[int] | slice) -> Images:
        """The images at `index` (positions in the split) as float32 (B, C, H, W) on [0, 1]."""
        chosen = self.rows[index if isinstance(index, slice) else np.asarray(index)]
        images = torch.from_numpy(np.asarray(self.store[chosen])).permute(0, 3, 1, 2)
        # contiguous first, so that bytes are copied, not floats
        return images.contiguous().float().div_(255) if images.dtype == torch.uint8 else images.contiguous()

    def part(self, part: slice) -> Self:
        """The images of a slice of the order of ids."""
        return replace(self, rows=self.rows[part], ids=self.ids[part])

    def first(self, num_images: int) -> Self:
        """The `num_images` images with the smallest ids.

        Raises:
            UserError: if the split has fewer.
        """
        if num_images > len(self):
            fewer = {"test": "reduce num_images", "val": "reduce num_val_images or --val-images"}
            raise UserError(
                f"asked for {num_images} {self.name} images, but the split has {len(self)}: "
                f"{fewer.get(self.name, 'ask for fewer')}, or add images"
            )
        return self.part(slice(num_images))


def at_once(most: int, height: int, width: int) -> int:
    """How many images to compute with at once: `most` of up to 64 x 64 pixels; of larger ones, as many pixels."""
    return max(1, min(most, most * BATCH_SIDE**2 // (height * width)))


def split_of(store: np.ndarray, name: Split) -> ImageSplit:
    """All distinct images of an (N, H, W, C) array, uint8 or float32 on [0, 1], as one split."""
    ids, rows = _unique(store)
    return ImageSplit(store, rows, torch.from_numpy(ids), name)


class ImageSource(Member):
    """A source of images and the size that they are prepared at.

    Members implement how to obtain images (`fetch`) and how to load them (`load_arrays`). The split into train, val and
    test depends only on the content. Official test images are the test split. A source without them uses the tenth of
    its images with the smallest content hashes. Of the other images, the twelfth with the smallest hashes is val.
    Duplicates are kept once, and images in test are removed from train and val.
    """

    is_sound: ClassVar[bool] = False
    """Whether images are of sound, as in `workbench.core.sound`."""

    size: ImageSize = Field(
        32, description="pixels a side that images are resized to, or [height, width] of images that are not square"
    )
    channels: int = Field(
        3,
        ge=1,
        le=MAX_CHANNELS,
        description="1: greyscale, 3: colour, which are converted into each other; or as many as the images have (2 of "
        "complex images)",
    )

    @abstractmethod
    def is_present(self) -> bool:
        """Whether the images are on disk, so that no download is needed."""

    @abstractmethod
    def fetch(self) -> Path:
        """Obtain the images unless they are present; return their location.

        Raises:
            UserError: if they cannot be obtained.
        """

    def verify(self) -> str | None:
        """Check published images on this machine against their digests; return the problem and the remedy in one line.

        None if there is no problem, the images are not present, or they are the user's own.
        """
        return None

    @abstractmethod
    def load_arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Train and official test images (None if there is no official test split), fetched if necessary.

        Each is (N, height, width, channels), uint8 or float32 on [0, 1].

        Raises:
            UserError: if the images are missing, unreadable or unsuitable.
        """

    def load_val(self) -> np.ndarray | None:
        """Validation images of the source's own, like `load_arrays`; None: a part of the training images."""
        return None

    def split(self, name: Split) -> ImageSplit:
        """One of the three splits; loaded once per process.

        Raises:
            UserError: if the images are missing, unreadable, unsuitable or too few.
        """
        return _splits(self)[name]

    def num_images(self, name: Split) -> int:
        """The number of images in a split."""
        return len(self.split(name))

    @property
    def fingerprint(self) -> str:
        """12 hex digits of a hash over the content of all three splits."""
        return digest({name: part.fingerprint for name, part in _splits(self).items()})

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channel, height, width)."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return (self.channels, height, width)

    def canonical(self) -> dict[str, Any]:
        """Only the content counts, not its location: the fingerprint replaces the path."""
        return {"kind": self.kind, "size": plain(self.size), "channels": self.channels, "fingerprint": self.fingerprint}


@functools.cache
def _splits(source: ImageSource) -> dict[Split, ImageSplit]:
    store, test_store = _checked(source) if source._is_open else source.load_arrays()
    ids, rows = _unique(store)
    if test_store is None:
        num_test = max(1, len(ids) // TEST_PART)
        test = ImageSplit(store, rows[:num_test], torch.from_numpy(ids[:num_test]), "test")
        num_images = len(ids)
        ids, rows = ids[num_test:], rows[num_test:]
    else:
        test_ids, test_rows = _unique(test_store)
        test = ImageSplit(test_store, test_rows, torch.from_numpy(test_ids), "test")
        kept = ~np.isin(ids, test_ids)
        ids, rows = ids[kept], rows[kept]
        num_images = len(ids)
    if num_images < MIN_IMAGES:
        where = getattr(source, "path", source.kind)
        raise UserError(f"{where} has {num_images} distinct training images: at least {MIN_IMAGES} are needed")
    if (val_store := source.load_val()) is not None:
        val_ids, val_rows = _unique(val_store)
        val = ImageSplit(val_store, val_rows, torch.from_numpy(val_ids), "val")
        kept = ~np.isin(ids, val_ids)
        return {"train": ImageSplit(store, rows[kept], torch.from_numpy(ids[kept]), "train"), "val": val, "test": test}
    num_val = max(1, len(ids) // VAL_PART)
    val = ImageSplit(store, rows[:num_val], torch.from_numpy(ids[:num_val]), "val")
    train = ImageSplit(store, rows[num_val:], torch.from_numpy(ids[num_val:]), "train")
    return {"train": train, "val": val, "test": test}


def _checked(source: ImageSource) -> tuple[np.ndarray, np.ndarray | None]:
    """The images of a user's own source, held to what `load_arrays` promises."""
    arrays = attempt(f"{source.kind} cannot load its images", source.load_arrays)
    if not isinstance(arrays, tuple) or len(arrays) != 2:
        raise UserError(f"{source.kind}: load_arrays must return two arrays, train and test; None for no test images")
    channels, height, width = source.image_shape
    for array in arrays[: 1 if arrays[1] is None else 2]:
        if not isinstance(array, np.ndarray) or array.dtype not in (np.uint8, np.float32):
            got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise UserError(f"{source.kind}: load_arrays must return uint8 or float32 arrays, got {got}")
        if array.shape[1:] != (height, width, channels):
            raise UserError(
                f"{source.kind}: load_arrays must return (N, {height}, {width}, {channels}) arrays, as data.size and "
                f"data.channels say, got {array.shape}"
            )
        if array.dtype == np.float32 and len(array) and not (array.min() >= 0 and array.max() <= 1):  # NaN fails too
            raise UserError(
                f"{source.kind}: float32 images must be on [0, 1], got {array.min():g} ... {array.max():g}: scale them"
            )
    return arrays


def content_ids(images: np.ndarray) -> np.ndarray:
    """The id of each image of an (N, H, W, C) array: a hash of its content, (N,) int64."""
    return np.fromiter((_content_hash(image) for image in images), dtype=np.int64, count=len(images))


def _unique(store: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ascending ids of the distinct images, and the row of each."""
    return np.unique(content_ids(store), return_index=True)


def _content_hash(image: np.ndarray) -> int:
    """63 bits of a hash of the image's bytes, so that the id is a non-negative int64."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest(), "little") >> 1
