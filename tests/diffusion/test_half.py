"""Priors with weights in half precision."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import tiny_models
import torch
from linear_steps import step_of
from torch import Tensor, nn

from workbench.autoencoders import KL
from workbench.degradations import GaussianBlur
from workbench.diffusion import DDIM, UNetRecipe
from workbench.diffusion.half import in_type
from workbench.diffusion.prior.pretrained import PretrainedPrior
from workbench.solvers import LDPS, Networks, Precision, weights_type
from workbench.solvers.base import HALF

CLASSES = [tiny_models.ldm, tiny_models.stable_diffusion, tiny_models.sdxl, tiny_models.dit, tiny_models.sd3]
CLASSES.append(tiny_models.flux)
HALVES = [torch.bfloat16, torch.float16]


def test_gradients_that_fp16_lacks_pass_through_a_network_in_it() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1))
    network.requires_grad_(False)
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    small = torch.randn(2, 3, 8, 8) * torch.tensor([1e-10, 1e3]).reshape(2, 1, 1, 1)  # each image has its own scale
    (expected,) = torch.autograd.grad(network(x), x, small)
    network.half()
    for _ in range(2):  # through the same graph twice, as the iterations of a solver do
        answer = in_type(torch.float16, network, x)
        for _ in range(2):
            (found,) = torch.autograd.grad(answer, x, small, retain_graph=True)
            for i in range(2):
                assert float((found[i] - expected[i]).norm() / expected[i].norm()) < 0.01
    (lost,) = torch.autograd.grad(network(x.half()).float(), x, small)
    assert not lost[0].any(), "a plain cast loses what is tested here"


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("pipeline", CLASSES, ids=lambda make: make.__name__)
def test_estimates_are_those_of_full_precision_to_rounding(
    pipeline: Callable[[], Any], dtype: torch.dtype, tmp_path: Path
) -> None:
    made = pipeline()
    tiny_models.shake(made.unet if hasattr(made, "unet") else made.transformer)
    folder = tiny_models.saved(made, tmp_path / "model")
    # FLUX's network rounds 1000 times its time and its guidance: these are what they are in bf16
    guidance = {"distilled_guidance": 4.0} if pipeline is tiny_models.flux else {}
    recipe = PretrainedPrior(source=str(folder), **guidance)
    full, half = recipe.load(folder), recipe.load_as(folder, dtype)
    assert half.dtype == dtype
    assert {p.dtype for p in half.parameters()} == {dtype}
    z = torch.randn(2, full.latent_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    time = torch.tensor([768.0, 512.0])
    with torch.no_grad():
        for one, other in zip(full.predict(z, time), half.predict(z, time), strict=True):
            assert other.dtype == torch.float32
            assert float((one - other).norm() / one.norm()) < (0.05 if dtype == torch.bfloat16 else 0.01)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_does_not_round_the_time(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = tiny_models.saved(tiny_models.ldm(), tmp_path / "model")
    prior = PretrainedPrior(source=str(folder)).load_as(folder, dtype)
    seen: list[Tensor] = []
    prior.network.time_proj.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    prior.predict(torch.zeros(2, 3, 8, 8), torch.tensor([999.0, 500.25]))
    assert seen[0].tolist() == [999.0, 500.25]


@pytest.mark.parametrize("precision", [p for p in get_args(Precision) if p != "float32"])
def test_a_guided_step_is_that_of_full_precision_to_rounding(precision: Precision, tmp_path: Path) -> None:
    folder = tiny_models.saved(tiny_models.stable_diffusion(), tmp_path / "model")
    recipe = PretrainedPrior(source=str(folder))

    def stepped(precision: Precision) -> Tensor:
        torch.manual_seed(0)
        step = step_of(GaussianBlur(), sampler=DDIM())
        step.networks.prior = recipe.load_as(folder, weights_type(precision)).requires_grad_(False)
        step.networks.precision = precision
        return LDPS().step(step)

    one, other = stepped("float32"), stepped(precision)
    assert other.dtype == torch.float32
    assert 0 < float((one - other).norm() / one.norm()) < 0.05


def test_an_autoencoder_that_fp16_cannot_hold_stays_in_full_precision() -> None:
    prior = UNetRecipe(block_out_channels=(16,)).build((8, 8, 8))
    networks = Networks(KL(block_out_channels=(16, 16)).build(3), prior, GaussianBlur(), precision="fp16-true")
    model = networks.autoencoder.model
    x = torch.rand(1, 3, 16, 16)
    full = networks.autoencoder.encode(x)
    assert model.config.force_upcast, "diffusers' default"
    assert torch.equal(networks.encode(x), full)
    networks.precision = "bf16-true"
    assert not torch.equal(networks.encode(x), full)
    networks.precision = "fp16-true"
    model.register_to_config(force_upcast=False)
    assert not torch.equal(networks.encode(x), full)


def test_every_precision_has_a_type_of_weights() -> None:
    assert {p: weights_type(p) for p in get_args(Precision)} == {
        "float32": torch.float32,
        "bf16": torch.float32,
        "bf16-true": torch.bfloat16,
        "fp16-true": torch.float16,
    }
    assert set(HALF) | {"float32"} == set(get_args(Precision))
