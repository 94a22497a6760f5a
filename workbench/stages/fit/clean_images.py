"""Clean images without a data set: samples of the prior, drawn once."""

from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field

from workbench.core import randomness
from workbench.core.bounds import Count, Seed
from workbench.core.config import plain
from workbench.data import ImageSplit, split_of
from workbench.data.base import at_once
from workbench.diffusion import DDIM, AnyPrior
from workbench.stages.base import Stage
from workbench.stages.latent_stage import LatentStage
from workbench.stages.runtime import Runtime
from workbench.stages.train.train_prior import TrainPrior

BATCH_SIZE = 64


class SamplePrior(LatentStage):
    """A prior and its autoencoder -> images sampled from them."""

    name: ClassVar[str] = "sample_prior"
    artifact_type: ClassVar[str] = "results"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 0.02

    prior: AnyPrior
    num_images: Count = Field(description="number of samples")
    num_steps: int = Field(50, ge=1, le=1000, description="steps of DDIM, from pure noise")
    seed: Seed = 0

    def effort(self) -> float:
        return self.num_images

    def relative_cost(self) -> float:
        return self.prior_stage().relative_cost() * self.num_steps / 50

    @property
    def label(self) -> str:
        return f"samples of the {self.prior_stage().label}"

    def canonical(self) -> dict[str, Any]:
        return canonical_without_images(self)

    def prior_stage(self) -> TrainPrior:
        """The stage of the prior."""
        return TrainPrior(data=self.data, autoencoder=self.autoencoder, prior=self.prior)

    def upstream(self) -> tuple[Stage, ...]:
        return (self.autoencoder_stage(), self.prior_stage())

    def load(self, runtime: Runtime) -> ImageSplit:
        """The samples, 8 bits per value; duplicates are dropped."""
        from safetensors.torch import load_file

        return split_of(load_file(self.ensure(runtime) / "images.safetensors")["images"].numpy(), "train")

    @torch.no_grad()
    def work(self, folder: Path, runtime: Runtime) -> None:
        from safetensors.torch import save_file

        autoencoder, prior = self.autoencoder_stage().load(runtime), self.prior_stage().load(runtime)
        shape, sampler = self.autoencoder_stage().latent_shape(), DDIM(num_steps=self.num_steps)
        chain, images = sampler.chain(prior.levels, shape), []
        with runtime.progress.task(f"drawing {self.label}") as update:
            for ids in torch.arange(self.num_images).split(at_once(BATCH_SIZE, *self.data.image_shape[1:])):
                z = randomness.normal(ids, (self.seed, "sample"), shape).to(runtime.device)
                for step in range(self.num_steps):
                    a, a_next = (chain.alpha_bar[at].expand(len(ids)) for at in (step, step + 1))
                    z0_hat, eps = prior.predict(z, chain.time[step].expand(len(ids)))
                    z = sampler.step(z0_hat, eps, a.to(z.device), a_next.to(z.device), torch.zeros_like(z))
                x = autoencoder.decode(z).clamp(0, 1)
                images.append((255 * x).round().byte().permute(0, 2, 3, 1).cpu())
                update(int(ids[-1]) + 1, self.num_images)
        save_file({"images": torch.cat(images).contiguous()}, folder / "images.safetensors")


def canonical_without_images(stage: LatentStage) -> dict[str, Any]:
    """The content of the identity of a stage that uses no images of its data: networks that ship do not need them."""
    fields = {name: plain(getattr(stage, name)) for name in type(stage).model_fields if name != "data"}
    upstream = [needed.identity for needed in stage.upstream()]
    shape = plain(stage.data.image_shape)
    return {"stage": stage.name, "version": stage.version, "upstream": upstream, "image_shape": shape, **fields}
