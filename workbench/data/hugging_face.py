"""Images of a data set of the Hugging Face Hub, or in one of its local formats, through the `datasets` library."""

import hashlib
import sys
from typing import Any, Literal

import numpy as np
from pydantic import Field

from workbench.core.config import NOT_IDENTITY, UserError
from workbench.core.foreign import FOREIGN, reason
from workbench.core.places import at_home, data_root
from workbench.data.base import ImageSource, PictureChannels
from workbench.data.preparation import is_smaller, prepare, size_text
from workbench.data.prepared import prepared
from workbench.data.reading import say

VERSION = 1
"""Of how images are prepared: part of the name of the file that keeps them."""


class HuggingFace(ImageSource):
    """Images of a Hub data set, or of a local folder that `datasets.load_dataset` reads (Parquet files, image folders).

    Images are centre-cropped to the shape of `size` and resized with antialiasing, once: they are then kept in a
    memory-mapped file. Data sets that need code of their own are not loaded.
    """

    kind: Literal["huggingface"] = "huggingface"
    name: str = Field(description="the data set on the Hub (owner/name), or a folder", json_schema_extra=NOT_IDENTITY)
    config: str | None = Field(None, description="its configuration, if it has several", json_schema_extra=NOT_IDENTITY)
    revision: str | None = Field(None, description="branch, tag or commit", json_schema_extra=NOT_IDENTITY)
    train_split: str = Field("train", description="the split with the images", json_schema_extra=NOT_IDENTITY)
    test_split: str | None = Field(
        None,
        description="the split with the test images; none: they are split by content",
        json_schema_extra=NOT_IDENTITY,
    )
    column: str = Field("image", description="the column of the images", json_schema_extra=NOT_IDENTITY)
    channels: PictureChannels = 3

    def is_present(self) -> bool:
        return at_home(self.name).is_dir()

    def fetch(self) -> Any:
        self._loaded(self.train_split)
        return at_home(self.name)

    def load_arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        train = self._prepared(self.train_split)
        test = None if self.test_split is None else self._prepared(self.test_split)
        number = f"{len(train):,} images" if test is None else f"{len(train):,} train and {len(test):,} test images"
        say(f"read {number} from {self.name}, left out 0")
        return train, test

    def _prepared(self, split: str) -> np.ndarray:
        rows = self._loaded(split)
        known = (VERSION, rows._fingerprint, self.column, self.size, self.channels)
        name = hashlib.sha256(repr(known).encode()).hexdigest()[:16]
        return prepared(data_root() / "prepared" / f"huggingface-{name}.npy", lambda: self._made(rows))

    def _made(self, rows: Any) -> np.ndarray:
        from rich.console import Console
        from rich.progress import track

        channels, height, width = self.image_shape
        images = np.empty((len(rows), height, width, channels), np.uint8)
        shown: Any = {"transient": True, "console": Console(stderr=True), "disable": not sys.stderr.isatty()}
        for i, row in enumerate(track(rows, f"preparing {len(rows):,} images", **shown)):
            picture = row[self.column]
            pixels = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
            if is_smaller(pixels.shape[0], pixels.shape[1], self.size):
                raise UserError(
                    f"image {i} of {self.name} is {pixels.shape[0]} x {pixels.shape[1]} pixels, smaller than size "
                    f"{size_text(self.size)}: lower data.size"
                )
            images[i] = prepare(pixels.reshape(1, *pixels.shape[:2], channels), self.size, channels)[0]
        return images

    def _loaded(self, split: str) -> Any:
        try:
            import datasets
        except ImportError:
            raise UserError(
                "data.kind=huggingface needs datasets: pip install 'severity-workbench[datasets]'"
            ) from None
        source = str(at_home(self.name)) if self.is_present() else self.name
        try:
            rows = datasets.load_dataset(source, self.config, split=split, revision=self.revision)
        except (*FOREIGN, datasets.exceptions.DatasetsError) as error:
            raise UserError(f"data.name: {self.name!r} cannot be loaded, split {split} ({reason(error)})") from None
        feature = rows.features.get(self.column)
        if not isinstance(feature, datasets.Image):
            images = [name for name, kind in rows.features.items() if isinstance(kind, datasets.Image)]
            found = f"its columns of images are {', '.join(images)}" if images else "it has no column of images"
            raise UserError(f"data.column: {self.name!r} has no images in {self.column!r}; {found}")
        return rows
