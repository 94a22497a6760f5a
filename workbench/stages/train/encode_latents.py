"""Encode a split once, so that priors and severity encoders train on cached clean latents."""

from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field

from workbench.core.bounds import Count
from workbench.core.tensors import Latents
from workbench.data import ImageSplit, Split
from workbench.stages.base import Stage
from workbench.stages.latent_stage import LatentStage
from workbench.stages.runtime import Runtime

BATCH_SIZE = 250


class EncodeLatents(LatentStage):
    """A split's images -> their scaled latents, in the split's order."""

    name: ClassVar[str] = "encode_latents"
    artifact_type: ClassVar[str] = "latents"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 0.0004

    split: Split = Field("train", description="which images")
    num_images: Count | None = Field(
        None, description="number of images to encode, from the start of the split; None: all"
    )

    def effort(self) -> float:
        return len(self.images())

    @property
    def label(self) -> str:
        return f"latents of {self.split}"

    def images(self) -> ImageSplit:
        """The images to encode."""
        images = self.data.split(self.split)
        return images if self.num_images is None else images.first(self.num_images)

    def upstream(self) -> tuple[Stage, ...]:
        return (self.autoencoder_stage(),)

    def load(self, runtime: Runtime) -> Latents:
        """Load the latents, (N, channel, height, width) float32, on the CPU."""
        from safetensors.torch import load_file

        return load_file(self.ensure(runtime) / "latents.safetensors")["z0"]

    @torch.no_grad()
    def work(self, folder: Path, runtime: Runtime) -> None:
        from safetensors.torch import save_file

        autoencoder = self.autoencoder_stage().load(runtime)
        images = self.images()
        latents = []
        with runtime.progress.task(f"encoding {len(images)} {self.split} images") as update:
            for index in images.batches(BATCH_SIZE):
                latents.append(autoencoder.encode(images.batch(index).to(runtime.device)).cpu())
                update(int(index[-1]) + 1, len(images))
        save_file({"z0": torch.cat(latents).contiguous()}, folder / "latents.safetensors")
