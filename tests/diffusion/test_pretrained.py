"""Other people's models: each class samples like diffusers' own pipeline, and answers on the scale of unit latents."""

import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from torch import Tensor

from workbench.autoencoders import Pretrained
from workbench.core.config import UserError
from workbench.diffusion import DDIM, PretrainedPrior, Prior
from workbench.weights.model import ModelFolder, read_model

STEPS = 5


@dataclass(frozen=True)
class Case:
    """A class of model, and how its own pipeline samples.

    Attributes:
        make: builds the pipeline.
        sample: (pipeline, noise) -> the pipeline's latents.
        sampler: our chain that corresponds to the pipeline's.
        settings: of our prior.
        shape: of its latents.
    """

    make: Callable[[], Any]
    sample: Callable[[Any, Tensor], Tensor]
    sampler: DDIM
    shape: tuple[int, int, int] = (4, 8, 8)
    settings: dict[str, Any] = field(default_factory=dict)


LEADING = {"num_steps": STEPS, "spacing": "leading", "clean_end": False}


def of_text(**arguments: Any) -> Callable[[Any, Tensor], Tensor]:
    """Sampling by a text-to-image pipeline, with latents of 8 x 8 pixels."""

    def sample(pipeline: Any, noise: Tensor) -> Tensor:
        found: Tensor = pipeline(
            **{"prompt": "", "height": 16, "width": 16, "guidance_scale": 1.0, **arguments},
            num_inference_steps=STEPS,
            latents=noise,
            output_type="latent",
        ).images
        return found

    return sample


def of_flux(pipeline: Any, noise: Tensor) -> Tensor:
    packed = pipeline._pack_latents(noise, *noise.shape)
    found = of_text(guidance_scale=3.5, prompt="the sea")(pipeline, packed)
    unpacked: Tensor = pipeline._unpack_latents(found, 16, 16, 2)
    return unpacked


def unconditional(pipeline: Any, noise: Tensor, *arguments: Any, **more: Any) -> Tensor:
    """The latents that a pipeline decodes, from this noise: these draw their own, and return images."""
    autoencoder = pipeline.vqvae if hasattr(pipeline, "vqvae") else pipeline.vae
    decode, seen = autoencoder.decode, list[Tensor]()

    def decoding(z: Tensor, **settings: Any) -> Any:
        seen.append(z)
        return decode(z, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect.getmodule(type(pipeline)), "randn_tensor", lambda *_, **__: noise)
        patch.setattr(autoencoder, "decode", decoding)
        pipeline(*arguments, **more, num_inference_steps=STEPS, output_type="np")
    return seen[0] * autoencoder.config.scaling_factor


def of_ldm(pipeline: Any, noise: Tensor) -> Tensor:
    return unconditional(pipeline, noise, batch_size=len(noise))


def of_dit(guidance: float) -> Callable[[Any, Tensor], Tensor]:
    return lambda pipeline, noise: unconditional(pipeline, noise, [3] * len(noise), guidance_scale=guidance)


def flow_sigmas(**arguments: Any) -> Callable[[Any, Tensor], Tensor]:
    """Evenly spaced levels: Stable Diffusion 3's own pipeline shifts its grid twice."""
    return of_text(sigmas=[1 - i / STEPS for i in range(STEPS)], **arguments)


CASES = {
    "ldm": Case(tiny_models.ldm, of_ldm, DDIM(**{**LEADING, "clean_end": True}), (3, 8, 8)),
    "ldm to the cleanest level": Case(
        lambda: tiny_models.ldm(set_alpha_to_one=False, steps_offset=1),
        of_ldm,
        DDIM(**LEADING, steps_offset=1),
        (3, 8, 8),
    ),
    "ldm from the last timestep": Case(
        lambda: tiny_models.ldm(timestep_spacing="trailing"), of_ldm, DDIM(num_steps=STEPS), (3, 8, 8)
    ),
    "stable diffusion": Case(tiny_models.stable_diffusion, of_text(), DDIM(**LEADING, steps_offset=1)),
    "stable diffusion, guided": Case(
        tiny_models.stable_diffusion,
        of_text(prompt="the sea", negative_prompt="blurred", guidance_scale=4.0),
        DDIM(**LEADING, steps_offset=1),
        settings={"prompt": "the sea", "negative_prompt": "blurred", "cfg_scale": 4.0},
    ),
    "stable diffusion, v": Case(
        lambda: tiny_models.stable_diffusion(prediction_type="v_prediction"), of_text(), DDIM(**LEADING, steps_offset=1)
    ),
    "stable diffusion, zero terminal SNR": Case(
        lambda: tiny_models.stable_diffusion(
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            steps_offset=0,
        ),
        of_text(),
        DDIM(num_steps=STEPS, clean_end=False),
    ),
    "sdxl": Case(tiny_models.sdxl, of_text(prompt="the sea"), DDIM(**LEADING, steps_offset=1), settings={"prompt": "the sea"}),
    "sdxl, guided": Case(
        tiny_models.sdxl,
        of_text(prompt="the sea", guidance_scale=3.0),
        DDIM(**LEADING, steps_offset=1),
        settings={"prompt": "the sea", "cfg_scale": 3.0},
    ),
    "dit": Case(tiny_models.dit, of_dit(1.0), DDIM(**{**LEADING, "clean_end": True}), settings={"class_label": 3}),
    "dit, guided": Case(
        tiny_models.dit,
        of_dit(4.0),
        DDIM(**{**LEADING, "clean_end": True}),
        settings={"class_label": 3, "cfg_scale": 4.0},
    ),
    "sd3": Case(tiny_models.sd3, flow_sigmas(), DDIM(num_steps=STEPS), (16, 8, 8)),
    "sd3, guided": Case(
        tiny_models.sd3,
        flow_sigmas(prompt="a portrait", guidance_scale=3.0),
        DDIM(num_steps=STEPS),
        (16, 8, 8),
        settings={"prompt": "a portrait", "cfg_scale": 3.0},
    ),
    "flux": Case(tiny_models.flux, of_flux, DDIM(num_steps=STEPS), (16, 8, 8), settings={"prompt": "the sea"}),
}
every = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], tuple[Any, ModelFolder]]:
    """The pipeline of a case and its folder, saved once."""
    known: dict[int, tuple[Any, ModelFolder]] = {}

    def make(case: Case) -> tuple[Any, ModelFolder]:
        if id(case) not in known:
            pipeline = case.make()
            folder = tiny_models.saved(pipeline, tmp_path_factory.mktemp("model") / "saved")
            known[id(case)] = pipeline, read_model(str(folder))
        return known[id(case)]

    return make


def sampled(prior: Prior, sampler: DDIM, noise: Tensor) -> Tensor:
    """Our samples from this noise."""
    chain = sampler.chain(prior.levels, noise.shape[1:])
    z = noise
    for time, (a, a_next) in zip(chain.time, itertools.pairwise(chain.alpha_bar), strict=True):
        z0_hat, eps = prior.predict(z, time.expand(len(z)))
        z = sampler.step(z0_hat, eps, a.expand(len(z)), a_next.expand(len(z)), torch.zeros_like(z))
    return z


@every
@torch.no_grad()
def test_sampling_equals_the_pipeline(case: Case, made: Callable[[Case], tuple[Any, ModelFolder]]) -> None:
    pipeline, folder = made(case)
    noise = torch.randn(1, *case.shape, generator=torch.Generator().manual_seed(1))
    prior = PretrainedPrior(source=str(folder.root), **case.settings).load(folder.root)
    theirs, ours = case.sample(pipeline, noise), sampled(prior, case.sampler, noise)
    assert theirs.std() > 0.05
    assert (theirs - ours).abs().max() < 1e-4
