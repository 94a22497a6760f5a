"""Evaluate photographs at their own size: whole, in tiles, or restored without a learned prior, one row per image."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, field_validator

from workbench.core.bounds import MAX_SIZE
from workbench.core.config import NOT_IDENTITY, UserError, digest
from workbench.core.places import at_home
from workbench.data import ImageSplit
from workbench.data.base import content_ids
from workbench.data.preparation import convert
from workbench.data.reading import list_pictures, read_pictures, same_white
from workbench.degradations import nearest_equivalent
from workbench.degradations.classical import total_variation, wiener
from workbench.metrics import Absent, LPIPSMetric, psnr
from workbench.metrics.dists import dists
from workbench.metrics.niqe import niqe
from workbench.restoration import Restored, Restorer
from workbench.restoration.memory import fitted
from workbench.restoration.tiles import restore_tiled
from workbench.stages.base import Stage
from workbench.stages.measure.estimates import degrade
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.scoring import Scoring
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

Method = Literal["whole", "tiles", "tv", "wiener"]
OVERLAP = 4
"""Neighbouring tiles share this fraction of their side, as its inverse."""


class EvaluatePhotographs(Evaluate):
    """Photographs in a folder, of any size, degraded and restored at that size.

    The networks are those of an Evaluate cell, and so are the columns for whole images. Severity, operator and noise of
    a photograph depend on its whole content, also if only its middle is used. Photographs for tuning are others than
    those for the test.
    """

    name: ClassVar[str] = "evaluate_photographs"
    version: ClassVar[int] = 1

    photographs: Path = Field(description="a folder of clean photographs", json_schema_extra=NOT_IDENTITY)
    part: Literal["test", "tuning"] = Field(
        "test", description="the first `num_images` photographs by their content, or the last"
    )
    side: int | None = Field(None, ge=8, le=MAX_SIZE, description="pixels a side of a square in the middle; none: all")
    method: Method = Field(
        "whole", description="whole: as `restore` does; tiles: of the model's size; tv, wiener: without a learned prior"
    )
    strength: float = Field(1.0, gt=0, le=1e6, description="tv, wiener: weight of the prior, in units of the noise")

    @field_validator("photographs", mode="before")
    @classmethod
    def _text(cls, path: Any) -> Any:
        return at_home(str(path)) if isinstance(path, int | str | Path) else path

    @property
    def label(self) -> str:
        side = "" if self.side is None else f" of {self.side} px"
        return f"{self.degradation.kind}, photographs{side}, {self.method}"

    @property
    def _learned(self) -> bool:
        return self.method in ("whole", "tiles")

    def upstream(self) -> tuple[Stage, ...]:
        if not self._learned:
            return ()
        fits = (
            None if self.shipped_fusion() is None else self.fusion_stage(),
            None if self.shipped_non_blind() is None else self.non_blind_stage(),
        )
        return tuple(stage for stage in super().upstream() if stage not in fits)

    def canonical(self) -> dict[str, Any]:
        shipped = {} if (fit := self.shipped_non_blind()) is None else {"non_blind": fit.identity}
        return super().canonical() | {"photographs": self._fingerprint(), **shipped}

    def measurement_set(self) -> str:
        return digest(
            {
                "photographs": self._fingerprint(),
                "part": self.part,
                "num_images": self.num_images,
                "side": self.side,
                "degradation": self.degradation.canonical(),
                "seed": self.seed,
            }
        )

    def scored_shape(self) -> tuple[int, int, int]:
        """The least height and width of the photographs, on which every metric has to be defined."""
        shapes = [group.store.shape[1:] for group in self._groups()]
        height, width = (min(sides) for sides in list(zip(*shapes, strict=True))[:2])
        return (self.data.channels, height, width)

    def check(self) -> None:
        self.check_metrics()
        self.check_non_blind()
        groups = self._groups()
        for group in groups:
            height, width, channels = group.store.shape[1:]
            self.degradation.check((channels, height, width), gradient=self.solver.guided and self._learned)

    def work(self, folder: Path, runtime: Runtime) -> None:
        import pandas as pd

        rows: list[dict[str, Any]] = []
        groups, lpips = self._groups(), self.load_lpips(runtime)
        restorer = self.restorer(runtime, shipped_statistics=True) if self._learned else None
        with runtime.progress.task(f"restoring: {self.label}") as update:
            for group in groups:
                for row in self._rows(group, restorer, lpips, runtime):
                    rows.append(row)
                    update(len(rows), sum(map(len, groups)))
        pd.DataFrame(rows).sort_values("image_id").to_parquet(folder / ROWS, index=False)

    def _rows(
        self, images: ImageSplit, restorer: Restorer | None, lpips: LPIPSMetric | Absent, runtime: Runtime
    ) -> Iterator[dict[str, Any]]:
        height, width, channels = images.store.shape[1:]
        if restorer is not None and self.method == "whole":
            sized = fitted(restorer, (channels, height, width))
            scoring = Scoring(self, sized, images, lpips, runtime, *self.load_metrics(runtime.device))
            for restored in sized.restore(scoring.measurements(sized.num_slots), scoring.clean_latents):
                more = _perceptual(restored, sized, scoring, lpips)
                for row, distance in zip(scoring.rows(restored), more, strict=True):
                    yield {**row, **distance}
            return
        networks, _ = self.load_metrics(runtime.device)
        for i in range(len(images)):
            measurement = degrade(self.degradation, images, torch.tensor([i]), self.seed, self.severities)
            measurement = measurement.to(runtime.device)
            x = images.batch([i]).to(runtime.device)
            costs = {}
            if restorer is not None:
                side = self.data.image_shape[1]
                tiled = restore_tiled(restorer, measurement, side, side // OVERLAP)
                x_hat, costs = tiled.x_hat, {"nfe": tiled.nfe, "flops": tiled.flops}
            else:
                restore = total_variation if self.method == "tv" else wiener
                x_hat = restore(self.degradation, measurement, self.strength)
            assert measurement.severity is not None
            row = {"image_id": int(images.ids[i]), "psnr": float(psnr(x_hat, x)), **costs}
            if not isinstance(lpips, Absent):
                row["lpips"] = float(lpips(x_hat, x))
            if "dists" in networks:
                row["dists"] = float(dists(networks["dists"], x_hat, x))
            if "niqe" in networks:
                row["niqe"] = float(niqe(networks["niqe"], x_hat))
            yield row | {"severity": float(measurement.severity), "measurement_set": self.measurement_set()}

    def _groups(self) -> list[ImageSplit]:
        """The photographs of the part, those of one size together.

        Raises:
            UserError: if there are too few, or one is smaller than `side`.
        """
        photographs = _read(self.photographs, self.data.channels)
        if self.num_images > len(photographs):
            raise UserError(f"{self.photographs} has {len(photographs)} photographs, {self.num_images} are needed")
        chosen = photographs[: self.num_images] if self.part == "test" else photographs[-self.num_images :]
        groups: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
        for image_id, pixels in chosen:
            middle = pixels if self.side is None else _middle(pixels, self.side, self.photographs)
            groups.setdefault(middle.shape, []).append((image_id, middle))
        return [
            ImageSplit(
                np.stack([pixels for _, pixels in group]),
                np.arange(len(group)),
                torch.tensor([image_id for image_id, _ in group]),
                "test",
            )
            for group in groups.values()
        ]

    def _fingerprint(self) -> str:
        return digest([image_id for image_id, _ in _read(self.photographs, self.data.channels)])


@torch.no_grad()
def _perceptual(
    restored: Restored, restorer: Restorer, scoring: Scoring, lpips: LPIPSMetric | Absent
) -> list[dict[str, float]]:
    """LPIPS of D(z_hat), if its weights are there."""
    if isinstance(lpips, Absent):
        return [{} for _ in range(len(restored))]
    x = scoring.clean(restored.ids)
    decoded = restorer.autoencoder.decode(restored.z_hat).clamp(0, 1)
    nearest = nearest_equivalent(scoring.cell.degradation, decoded, x)
    return [{"lpips_decoded": value} for value in lpips(nearest, x).tolist()]


@functools.lru_cache(maxsize=4)
def _read(folder: Path, channels: int) -> list[tuple[int, np.ndarray]]:
    """(id, (height, width, channels) uint8 or float32) of each different photograph, by ascending id."""
    files = list_pictures(folder).files
    if not files:
        raise UserError(f"{folder} has no photographs")
    pictures = same_white([picture for file in files for picture in read_pictures(file)])
    found = {}
    for picture in pictures:
        (pixels,) = convert(picture.pixels[None], channels)
        found[int(content_ids(pixels[None])[0])] = pixels
    return sorted(found.items(), key=lambda item: item[0])


def _middle(pixels: np.ndarray, side: int, folder: Path) -> np.ndarray:
    height, width = pixels.shape[:2]
    if min(height, width) < side:
        raise UserError(f"{folder} has a photograph of {width} x {height}, smaller than side={side}")
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]
