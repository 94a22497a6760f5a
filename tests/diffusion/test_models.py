"""Other people's models: each class samples like diffusers' own pipeline, and answers on the scale of unit latents."""

import inspect
import itertools
import shutil
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
    "sdxl": Case(
        tiny_models.sdxl, of_text(prompt="the sea"), DDIM(**LEADING, steps_offset=1), settings={"prompt": "the sea"}
    ),
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


@every
@torch.no_grad()
def test_autoencoder_and_noise_levels_are_the_models(
    case: Case, made: Callable[[Case], tuple[Any, ModelFolder]]
) -> None:
    pipeline, folder = made(case)
    ours = Pretrained(source=str(folder.root), subfolder=folder.autoencoder, scaling="config").build(3)
    theirs = getattr(pipeline, folder.autoencoder).eval()
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    raw = theirs.encode(2 * x - 1)
    mode = raw.latents if folder.autoencoder == "vqvae" else raw.latent_dist.mode()
    z = (mode - (theirs.config.get("shift_factor") or 0)) * theirs.config.scaling_factor
    assert (ours.encode(x) - z).abs().max() < 1e-5
    assert (ours.decode(z) - (theirs.decode(mode).sample + 1) / 2).abs().max() < 1e-5
    levels = PretrainedPrior(source=str(folder.root), **case.settings).plan(folder.root).levels
    time = torch.tensor([100.0, 500.0, 900.0])
    if (table := getattr(pipeline.scheduler, "alphas_cumprod", None)) is not None:
        assert torch.equal(levels.alpha_bar_at(time), table[time.long()].double())
    else:  # a flow: z = (1 - sigma) z0 + sigma eps, in variance-preserving coordinates
        sigma = time.double() / 1000
        expected = (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)
        assert (levels.alpha_bar_at(time) - expected).abs().max() < 1e-12


def test_two_evaluations_with_guidance(made: Callable[[Case], tuple[Any, ModelFolder]]) -> None:
    _, folder = made(CASES["stable diffusion"])
    plain, guided = (PretrainedPrior(source=str(folder.root), cfg_scale=s).load(folder.root) for s in (1.0, 2.0))
    assert (plain.calls, guided.calls) == (1, 2)


def test_what_the_prior_is_told_is_in_its_identity() -> None:
    source = "somebody/model"
    told = PretrainedPrior(source=source, prompt="the sea", cfg_scale=3.0)
    assert told.conditions() == {"prompt": "the sea", "cfg_scale": 3.0}
    assert PretrainedPrior(source=source).conditions() == {}


def test_a_unet_without_kind_is_still_read() -> None:
    from workbench.diffusion import UNetRecipe
    from workbench.stages.measure.evaluate import Evaluate

    stored = Evaluate().model_dump(mode="json")
    del stored["prior"]["kind"]
    assert Evaluate.model_validate(stored).prior == UNetRecipe()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("ldm", {"prompt": "the sea"}, "prior.prompt: the model in .* is unconditional"),
        ("ldm", {"cfg_scale": 2.0}, "prior.cfg_scale: the model in .* is unconditional"),
        ("stable diffusion", {"class_label": 1}, "prior.class_label: .* conditioned on a text"),
        ("dit", {"prompt": "the sea"}, "prior.prompt: .* conditioned on a class"),
        ("dit", {"class_label": 1000}, "prior.class_label must be from 0 to 999, got 1000"),
    ],
)
def test_settings_that_the_model_has_no_use_for(
    name: str, settings: dict[str, Any], message: str, made: Callable[[Case], tuple[Any, ModelFolder]]
) -> None:
    _, folder = made(CASES[name])
    with pytest.raises(UserError, match=message):
        PretrainedPrior(source=str(folder.root), **settings).load(folder.root)


def test_a_negative_prompt_needs_guidance() -> None:
    with pytest.raises(ValueError, match="negative_prompt has no effect without guidance"):
        PretrainedPrior(source="x", negative_prompt="blurred")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("dit", (4, 8, 16), "needs square latents"),
        ("dit", (4, 7, 7), "divisible by 2"),
        ("sd3", (16, 64, 64), "positions reach to latents of 48 x 48"),
    ],
)
def test_latents_that_a_transformer_does_not_take(
    name: str, shape: tuple[int, int, int], message: str, made: Callable[[Case], tuple[Any, ModelFolder]]
) -> None:
    _, folder = made(CASES[name])
    with pytest.raises(UserError, match=message):
        PretrainedPrior(source=str(folder.root)).plan(folder.root).check_latents(shape)


@pytest.fixture
def copy(made: Callable[[Case], tuple[Any, ModelFolder]], tmp_path: Path) -> Path:
    """A Stable Diffusion model, to be harmed."""
    return Path(shutil.copytree(made(CASES["stable diffusion"])[1].root, tmp_path / "model"))


def harmed(copy: Path, how: str) -> None:
    match how:
        case "pipeline":
            tiny_models.edit(copy / "model_index.json", _class_name="StableDiffusionUpscalePipeline")
        case "network":
            tiny_models.edit(copy / "unet/config.json", _class_name="PixArtTransformer2DModel")
        case "index":
            (copy / "model_index.json").write_text("[1")
        case "no autoencoder":
            shutil.rmtree(copy / "vae")
        case "no denoiser":
            shutil.rmtree(copy / "unet")
        case "no text encoder":
            shutil.rmtree(copy / "text_encoder")
        case "pickled":
            (copy / "unet/diffusion_pytorch_model.safetensors").rename(copy / "unet/diffusion_pytorch_model.bin")
        case "no weights":
            (copy / "unet/diffusion_pytorch_model.safetensors").unlink()
        case "cut":
            path = copy / "unet/diffusion_pytorch_model.safetensors"
            path.write_bytes(path.read_bytes()[:5000])
        case "cut text":
            path = copy / "text_encoder/model.safetensors"
            path.write_bytes(path.read_bytes()[:5000])
        case "shape":
            tiny_models.edit(copy / "unet/config.json", block_out_channels=[16, 64])
        case "scheduler":
            shutil.rmtree(copy / "scheduler")
        case "own code":
            tiny_models.edit(copy / "text_encoder/config.json", auto_map={"AutoModel": "trap.Model"})
        case "quantised":
            tiny_models.edit(copy / "unet/config.json", quantization_config={"quant_method": "bitsandbytes"})
        case "another text encoder":
            tiny_models.edit(copy / "text_encoder/config.json", architectures=["RobertaSeriesModelWithTransformation"])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("pipeline", "is a StableDiffusionUpscalePipeline, which is not supported; available: LDMPipeline"),
        ("network", "holds a PixArtTransformer2DModel, which is not supported; available: UNet2DModel"),
        ("index", "model_index.json cannot be read"),
        ("no autoencoder", "has no autoencoder: expected vae/config.json or vqvae/config.json"),
        ("no denoiser", "has no denoising network: expected unet/config.json"),
        ("no text encoder", "lacks text_encoder/ or tokenizer/"),
        ("pickled", r"is pickled, and loading it could run its code: python -m workbench import .*/model"),
        ("no weights", "has a config.json but no weights"),
        ("cut", "cannot load .*unet"),
        ("cut text", "cannot read the text encoder"),
        ("shape", "cannot load .*unet|do not fit its config"),
        ("scheduler", "scheduler has no scheduler_config.json"),
        ("own code", "auto_map: the network needs code of its own, which is not run"),
        ("quantised", "quantization_config: the network is quantised, which is not supported"),
        ("another text encoder", "holds a RobertaSeriesModelWithTransformation; supported"),
    ],
)
def test_a_harmed_folder_is_one_line(how: str, message: str, copy: Path) -> None:
    harmed(copy, how)
    with pytest.raises(UserError, match=message) as raised:
        PretrainedPrior(source=str(copy)).load(PretrainedPrior(source=str(copy)).folder())
    assert "\n" not in str(raised.value)


def test_no_module_that_a_folder_names_is_imported(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    tiny_models.edit(copy / "model_index.json", vae=["trap", "AutoencoderKL"], safety_checker=["trap", "Checker"])
    PretrainedPrior(source=str(copy)).load(copy)


def test_a_folder_without_an_index(copy: Path) -> None:
    (copy / "model_index.json").unlink()
    assert read_model(str(copy)).network == "UNet2DConditionModel"


def test_a_quantised_autoencoder_without_a_factor_is_not_scaled(tmp_path: Path) -> None:
    folder = tiny_models.saved(tiny_models.ldm(), tmp_path / "model")
    tiny_models.edit(folder / "vqvae/config.json", scaling_factor=None)
    autoencoder = Pretrained(source=str(folder), subfolder="vqvae", scaling="config").build(3)
    assert autoencoder.scale == 1, "not the 0.18215 that diffusers has for another class"


def test_latents_scaled_by_channel_are_refused(copy: Path) -> None:
    tiny_models.edit(copy / "vae/config.json", latents_std=[1.0, 2.0, 1.0, 1.0])
    with pytest.raises(UserError, match="latents_std: latents scaled by channel are not supported"):
        Pretrained(source=str(copy), subfolder="vae", scaling="config").build(3)
