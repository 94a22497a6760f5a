"""Count what a published model's restorations cost, on paper: nothing is computed at its size."""

import functools
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from workbench.autoencoders import Patch
from workbench.degradations import GaussianBlur
from workbench.diffusion import DDIM, load_prior
from workbench.diffusion.published import PUBLISHED
from workbench.restoration import Restorer
from workbench.severity.start import Full
from workbench.severity.untrained import Untrained
from workbench.solvers import LDPS, AnySolver
from workbench.stages.base import Stage
from workbench.stages.measure.on_meta import Part, count
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime
from workbench.weights import zoo

PAIR = "tiny_imagenet_64_patch"
"""The shipped pair on which the evaluations of a solver's steps are counted."""
NUM_STEPS, SIDE = 20, 32


class CountCost(Stage):
    """One published model and one solver -> the cost of a step, and of the severity encoding; one row.

    The networks are counted without weights (`on_meta`). The evaluations in a step are counted on the pair that ships,
    from pure noise on a blurred photograph, because for some solvers they depend on the data.
    """

    name: ClassVar[str] = "count_cost"
    version: ClassVar[int] = 1
    seconds_per_effort: ClassVar[float] = 60.0

    model: Literal["ldm_vq_f4", "sd_1_5", "sdxl", "sd_3_medium", "flux_1"] = Field(
        "sd_1_5", description="the published model"
    )
    solver: AnySolver = LDPS()

    def effort(self) -> float:
        return 1.0

    @property
    def label(self) -> str:
        return f"cost of {self.solver.kind} with {PUBLISHED[self.model].title}"

    def work(self, folder: Path, runtime: Runtime) -> None:
        import pandas as pd

        published = PUBLISHED[self.model]
        with runtime.progress.task(f"counting the {self.label}") as update:
            parts = parts_of(self.model)
            update(1, 2)
            per_step = evaluations(self.solver, runtime)
        row: dict[str, Any] = {"title": published.title, "image_size": published.image_size}
        for name, part in parts.items():
            row |= {
                f"{name}_parameters": part.parameters,
                f"{name}_flops": part.flops,
                f"{name}_grad_flops": part.flops_grad,
                f"{name}_activation_bytes": part.activation_bytes,
            }
        row["step_flops"] = sum(number * flops_of(parts, name) for name, number in per_step.items())
        graded = [name.removesuffix("_grad") for name in per_step if name.endswith("_grad")]
        row["step_activation_bytes"] = sum(parts[name].activation_bytes for name in graded)
        row["severity_flops"] = parts["encoder"].flops  # the autoencoder's encoder, fine-tuned, with a small head
        row |= {f"{name}_per_step": number for name, number in per_step.items()}
        pd.DataFrame([row]).to_parquet(folder / ROWS)


@functools.cache
def parts_of(model: str) -> dict[str, Part]:
    """The cost of prior, decoder and encoder of a published model at its size."""
    published = PUBLISHED[model]
    autoencoder, prior = published.build()
    side = published.image_size
    with torch.device("meta"):
        x = torch.zeros(1, autoencoder.image_channels, side, side)
        z = torch.zeros(1, *autoencoder.latent_shape((x.shape[1], side, side)))
    time = torch.tensor([500.0])
    return {
        "prior": count(prior, lambda z: prior.predict(z, time)[0], z),
        "decoder": count(autoencoder.model.decoder, autoencoder.decode, z),
        "encoder": count(autoencoder.model.encoder, autoencoder.encode, x),
    }


def flops_of(parts: dict[str, Part], evaluation: str) -> float:
    """FLOPs of one evaluation, named as in `Networks.accounts`."""
    name, _, how = evaluation.partition("_")
    part = parts[name]
    return {"": part.flops, "grad": part.flops_grad, "backward": part.flops_grad - part.flops}[how]


def evaluations(solver: AnySolver, runtime: Runtime) -> dict[str, float]:
    """Evaluations of each network per step, by the names of `Networks.accounts`."""
    folder = zoo.zoo_root() / PAIR
    autoencoder, prior = Patch().load(folder / "autoencoder"), load_prior(folder)
    for network in (autoencoder, prior):
        runtime.place(network.requires_grad_(False))
    operator = GaussianBlur()
    measurement = operator.measure(_picture(), torch.tensor([0.5]), torch.tensor([0]), 0).to(runtime.device)
    restorer = Restorer(
        autoencoder=autoencoder,
        prior=prior,
        estimator=Untrained(autoencoder),
        degradation=operator,
        start=Full(),
        solver=solver,
        sampler=DDIM(num_steps=NUM_STEPS),
    )
    counted: Counter[str] = restorer.restore_all(measurement).records[0].evaluations
    # those of the start and of the result are not the steps'
    counted.subtract({"severity_encoder": 1, "decoder": 1})
    steps = counted["prior"] + counted["prior_grad"]
    return {name: number / steps for name, number in sorted(counted.items()) if number}


def _picture() -> torch.Tensor:
    """A photograph that comes with scikit-learn, (1, 3, SIDE, SIDE)."""
    from sklearn.datasets import load_sample_image

    pixels = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)[None].float() / 255
    return torch.nn.functional.interpolate(pixels, (SIDE, SIDE), mode="area")
