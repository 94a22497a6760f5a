"""Measure an autoencoder by itself: its reconstruction error, the distribution of its latents, and its size."""

import json
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from workbench.autoencoders import AnyAutoencoder, Tiny
from workbench.core.bounds import MAX_COUNT
from workbench.data import FashionMNIST, ImageSplit, Source, Split
from workbench.metrics import calibration, psnr, ssim_columns
from workbench.stages.base import Stage
from workbench.stages.latent_stage import LatentStage
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

LATENTS_FILE = "latents.json"
"""Not the file name of a severity encoder's calibration, which W&B logs as the calibration of all images."""
LATENTS = "latents"
"""The group of the clean latents in this file."""
SIZES = "sizes.json"
BATCH_SIZE = 250


class MeasureAutoencoder(LatentStage):
    """Clean images through an autoencoder: psnr, ssim and ssim_valid of D(E(x)), one row per image.

    `latents.json` describes the distribution of the latents: a calibration (see `metrics.calibration.summarise`) of z0,
    treated as the error of predicting 0 with variance 1, as at the prior's noisiest timestep. `sizes.json` has the
    latent's shape, and the numbers of parameters of the autoencoder and of the encoder from which a severity encoder is
    initialized.
    """

    name: ClassVar[str] = "measure_autoencoder"
    version: ClassVar[int] = 2
    seconds_per_effort: ClassVar[float] = 0.004

    data: Source = FashionMNIST()
    autoencoder: AnyAutoencoder = Tiny()
    split: Split = Field("test", description="which images")
    num_images: int = Field(
        1024, ge=2, le=MAX_COUNT, description="number of images, from the start of the split, or all"
    )

    def effort(self) -> float:
        return self.num_images

    @property
    def label(self) -> str:
        return f"the {self.autoencoder.label} autoencoder by itself"

    def upstream(self) -> tuple[Stage, ...]:
        return (self.autoencoder_stage(),)

    def images(self) -> ImageSplit:
        """The images to measure."""
        split = self.data.split(self.split)
        return split.first(min(self.num_images, len(split)))

    def check(self) -> None:
        """Raise UserError for unsuitable images and weights, before any expensive computation."""
        self.images()
        self.autoencoder_stage().check()

    @torch.no_grad()
    def work(self, folder: Path, runtime: Runtime) -> None:
        import pandas as pd

        autoencoder, images = self.autoencoder_stage().load(runtime), self.images()
        frames, parts = [], []
        with runtime.progress.task(f"measuring {self.label}") as update:
            for index in images.batches(BATCH_SIZE):
                x = images.batch(index).to(runtime.device)
                z0 = autoencoder.encode(x)
                x_hat = autoencoder.decode(z0)
                columns = {"image_id": images.ids[index], "psnr": psnr(x_hat, x), **ssim_columns(x_hat, x)}
                frames.append(pd.DataFrame({name: column.numpy(force=True) for name, column in columns.items()}))
                parts.append(calibration.collect(z0, torch.zeros_like(z0), torch.ones(len(z0), device=z0.device)))
                update(int(index[-1]) + 1, len(images))
        found = calibration.summarise(calibration.join(parts), calibration.bins_for(len(images)))
        (folder / LATENTS_FILE).write_text(calibration.as_json({LATENTS: found}))
        sizes = {
            "latent_shape": self.autoencoder_stage().latent_shape(),
            "parameters": _count(autoencoder),
            "encoder_parameters": _count(autoencoder.encoder_copy()),
        }
        (folder / SIZES).write_text(json.dumps(sizes))
        pd.concat(frames, ignore_index=True).to_parquet(folder / ROWS)


def _count(network: nn.Module) -> int:
    """Its parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
