"""What every image source is: images of one size, split by content, named by a fingerprint of what they hold."""

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from workbench.core.bounds import MAX_SIZE
from workbench.core.config import UserError, digest
from workbench.core.families import Member
from workbench.core.tensors import Ids, Images

Split = Literal["train", "val", "test"]

MIN_IMAGES = 20
"""Fewer different images than this make no train, val and test part."""
TEST_PART = 10
"""One image in so many goes to test where a source has no official test split."""
VAL_PART = 12
"""One image in so many of those not in test goes to val."""


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """One split, ordered by id, so that neither file names nor file order matter.

    Attributes:
        store: (M, H, W, C) uint8, or float32 on [0, 1], in the order of the source; may be memory-mapped and may hold
            other splits too.
        rows: (N,) where in `store` the images of this split stand, in the order of `ids`.
        ids: (N,) ascending content hashes of the images; no id occurs twice.
        name: which split it is.
    """

    store: np.ndarray
    rows: np.ndarray
    ids: Ids
    name: Split

    def __len__(self) -> int:
        return len(self.rows)

    @functools.cached_property
    def fingerprint(self) -> str:
        """12 hex digits over the ordered ids: the split is named by its content."""
        return hashlib.sha256(self.ids.numpy().astype("<i8").tobytes()).hexdigest()[:12]

    @property
    def images(self) -> np.ndarray:
        """All images as one (N, H, W, C) array, uint8 or float32 on [0, 1]: a copy in memory."""
        return np.asarray(self.store[self.rows])

    def batch(self, index: Tensor | Sequence[int] | slice) -> Images:
        """The images at `index` (positions in the split) as float32 (B, C, H, W) on [0, 1]."""
        chosen = self.rows[index if isinstance(index, slice) else np.asarray(index)]
        images = torch.from_numpy(np.asarray(self.store[chosen])).permute(0, 3, 1, 2)
        # contiguous first: bytes are moved, not floats
        return images.contiguous().float().div_(255) if images.dtype == torch.uint8 else images.contiguous()

    def first(self, num_images: int) -> Self:
        """The `num_images` images of the smallest ids.

        Raises:
            UserError: if the split holds fewer.
        """
        if num_images > len(self):
            raise UserError(f"asks for {num_images} {self.name} images, the split holds {len(self)}")
        return replace(self, rows=self.rows[:num_images], ids=self.ids[:num_images])


class ImageSource(Member):
    """Where images come from, and how large they are made.

    A member says how to obtain its images (`fetch`) and how to load them (`load_arrays`). The split into train, val and
    test depends on content alone: official test images stay test; a source without any gives the tenth with the
    smallest content hashes; of the others, the twelfth with the smallest hashes is val. Images that occur twice are
    held once, and what stands in test is dropped from train and val.
    """

    size: int = Field(32, ge=8, le=MAX_SIZE, description="height and width in pixels that images are brought to")
    channels: Literal[1, 3] = Field(3, description="1: grey, 3: colour; images are converted")

    @abstractmethod
    def is_present(self) -> bool:
        """Whether the images are on disk, so that nothing need be downloaded."""

    @abstractmethod
    def fetch(self) -> Path:
        """Obtain the images unless they are present; where they are.

        Raises:
            UserError: if they cannot be obtained.
        """

    def verify(self) -> str | None:
        """What is wrong with images that were published with digests and lie here, and the remedy, in one line.

        None: nothing, or they are not here, or they are the user's own.
        """
        return None

    @abstractmethod
    def load_arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Train and official test images (None: there is no official test split), fetched if need be.

        Each is (N, size, size, channels), uint8 or float32 on [0, 1].

        Raises:
            UserError: if the images are missing, unreadable or unfit.
        """

    def split(self, name: Split) -> ImageSplit:
        """One of the three splits; loaded once in a process.

        Raises:
            UserError: if the images are missing, unreadable, unfit or too few.
        """
        return _splits(self)[name]

    @property
    def fingerprint(self) -> str:
        """12 hex digits over the content of all three splits."""
        return digest({name: part.fingerprint for name, part in _splits(self).items()})

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channel, height, width)."""
        return (self.channels, self.size, self.size)

    def canonical(self) -> dict[str, Any]:
        """The content counts and not where it lies: the fingerprint stands for the path."""
        return {"kind": self.kind, "size": self.size, "channels": self.channels, "fingerprint": self.fingerprint}


@functools.cache
def _splits(source: ImageSource) -> dict[Split, ImageSplit]:
    store, test_store = source.load_arrays()
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
        raise UserError(f"{where} holds {num_images} different images to train on: at least {MIN_IMAGES} are needed")
    num_val = max(1, len(ids) // VAL_PART)
    val = ImageSplit(store, rows[:num_val], torch.from_numpy(ids[:num_val]), "val")
    train = ImageSplit(store, rows[num_val:], torch.from_numpy(ids[num_val:]), "train")
    return {"train": train, "val": val, "test": test}


def content_ids(images: np.ndarray) -> np.ndarray:
    """The id of each image of an (N, H, W, C) array: a hash of its content, (N,) int64."""
    return np.fromiter((_content_hash(image) for image in images), dtype=np.int64, count=len(images))


def _unique(store: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ascending ids of the different images and the row of each."""
    return np.unique(content_ids(store), return_index=True)


def _content_hash(image: np.ndarray) -> int:
    """63 bits of the image's bytes, so that the id is a non-negative int64."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest(), "little") >> 1
