"""Costs of parts, against what is known of them."""

import functools
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from memory_use import MEGABYTE, allocate, fail

from workbench.core.config import UserError
from workbench.severity.calibration.recalibration import Isotonic
from workbench.severity.start import Fixed, SNRMatch
from workbench.solvers import LDPS, DecodeOnly
from workbench.stages.measure.measure_cost import OPERATIONS, MeasureCost, Parts, seconds_of
from workbench.stages.measure.peak_memory import peak_memory
from workbench.stages.provenance import provenance
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime

SMALL = {"image_size": 16, "batch_size": 2, "num_repeats": 3, "autoencoder.width": 8, "prior.block_out_channels": (16,)}


def small(**fields: object) -> MeasureCost:
    return MeasureCost().replace({**SMALL, **fields})


def test_flops_are_those_of_the_evaluations_that_each_part_needs() -> None:
    parts = Parts(small(), "cpu")
    unit = parts.restorer.unit_flops((1, 16, 16))
    assert parts.flops("severity encoding") == 2 * unit["severity_encoder"]
    assert parts.flops("reverse step") == 2 * (unit["prior_grad"] + unit["decoder_grad"])
    assert parts.flops("decoding") == 2 * unit["decoder"]
    assert parts.flops("start rule") > parts.flops("severity encoding") + parts.flops("decoding")
    fixed = Parts(small(start=Fixed(timestep=100)), "cpu")
    assert fixed.flops("start rule") == fixed.flops("severity encoding")


def test_a_guided_step_moves_the_latents_by_the_gradient() -> None:
    guided, unguided = (Parts(small(solver=LDPS(guidance_scale=s)), "cpu").operation("reverse step")() for s in (1, 0))
    assert guided.shape == (2, 8, 4, 4)
    assert not torch.equal(guided, unguided)
    assert not guided.requires_grad


def test_each_timing_is_of_one_call_after_a_warm_up() -> None:
    calls = []

    def work() -> None:
        calls.append(len(calls))
        time.sleep(0.1 if len(calls) <= 2 else 0.01)

    timings = seconds_of(work, "cpu", 3)
    assert len(calls) == 5
    assert all(0.01 <= seconds < 0.09 for seconds in timings)


def test_rows_name_the_machine_and_every_repeat(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path)
    rows = pd.read_parquet(small().ensure(runtime) / ROWS)
    assert rows.groupby("operation", sort=False).size().to_dict() == dict.fromkeys(OPERATIONS, 3)
    assert (rows["seconds"] > 0).all()
    made = provenance(runtime)
    assert (rows["device"] == made["device"]).all()
    assert (rows["threads"] == made["threads"]).all()
    assert small().identity != small(batch_size=4).identity


def test_peak_memory_is_what_the_work_takes() -> None:
    peak = peak_memory(functools.partial(allocate, 100 * MEGABYTE), "cpu", ())
    assert peak == pytest.approx(100 * MEGABYTE, rel=0.1)


def test_a_process_killed_for_memory_is_one_line() -> None:
    with pytest.raises(UserError, match="not enough memory for this size"):
        peak_memory(fail, "cpu", ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start.variance": "fused"}, "needs a trained severity encoder"),
        (
            {"start": SNRMatch(variance="encoder", recalibration=Isotonic(), risk=0.1)},
            "without recalibration, risk or noise=channel",
        ),
        ({"solver": DecodeOnly()}, "decode_only has no reverse step"),
    ],
)
def test_what_cannot_be_measured_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(**fields)


def test_sizes_that_the_autoencoder_cannot_take_are_refused() -> None:
    with pytest.raises(UserError, match="sizes divisible by 4"):
        small(image_size=18).check()
