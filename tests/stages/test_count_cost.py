"""Costs on paper: counts that are known otherwise, and nothing computed at the models' size."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from workbench.core.flop_counter import flop_counter
from workbench.diffusion.published import PUBLISHED
from workbench.solvers import GMLDPS, LDPS, MMPS
from workbench.stages.measure.count_cost import CountCost, evaluations
from workbench.stages.measure.on_meta import count, on_meta
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

WEIGHTS = {"ldm_vq_f4": 274.06, "sd_1_5": 859.52, "sdxl": 2567.46, "sd_3_medium": 2028.33, "flux_1": 11901.41}
"""Million weights of the published denoisers."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_as_many_weights(name: str) -> None:
    autoencoder, prior = PUBLISHED[name].build()
    assert sum(weight.numel() for weight in prior.parameters()) / 1e6 == pytest.approx(WEIGHTS[name], abs=0.02)
    assert all(weight.is_meta for weight in (*autoencoder.parameters(), *prior.parameters()))


def test_a_convolution_costs_what_it_costs() -> None:
    network = on_meta(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.SiLU()).requires_grad_(False))
    part = count(network, network, torch.zeros(1, 3, 10, 10, device="meta"))
    assert part.parameters == 3 * 8 * 9
    assert part.flops == 2 * 3 * 8 * 9 * 100
    assert part.flops_grad == 2 * part.flops
    assert part.activation_bytes == 4 * (3 + 8) * 100, "the inputs of both layers"


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_is_counted(device: str) -> None:
    query, key = torch.zeros(1, 2, 64, 16, device=device), torch.zeros(1, 2, 96, 16, device=device)
    with flop_counter() as counter:
        nn.functional.scaled_dot_product_attention(query, key, key)
    assert counter.get_total_flops() == 2 * 2 * 2 * 64 * 96 * 16


def test_attention_keeps_no_matrix_of_pairs() -> None:
    def attend(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)

    part = count(nn.Identity(), attend, torch.zeros(1, 1, 1000, 8, device="meta"))
    assert part.activation_bytes <= 4 * 4 * 1000 * 8


def test_on_meta_copies_no_weights_and_leaves_the_network() -> None:
    network = nn.BatchNorm2d(3)
    copied = on_meta(network)
    assert copied.weight.is_meta
    assert copied.running_mean is not None
    assert copied.running_mean.is_meta
    assert not network.weight.is_meta


def test_evaluations_of_a_step(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path)
    assert evaluations(LDPS(), runtime) == {"prior_grad": 1, "decoder_grad": 1}
    assert evaluations(GMLDPS(), runtime)["encoder_grad"] == 1
    assert evaluations(MMPS(share=4), runtime)["decoder_grad"] > 0


def test_a_row(tmp_path: Path) -> None:
    cell = CountCost(model="ldm_vq_f4", solver=LDPS())
    row = pd.read_parquet(cell.ensure(Runtime(tmp_path)) / ROWS).iloc[0]
    assert row["step_flops"] == row["prior_grad_flops"] + row["decoder_grad_flops"]
    assert row["severity_flops"] == row["encoder_flops"]
    assert row["step_activation_bytes"] == row["prior_activation_bytes"] + row["decoder_activation_bytes"]
