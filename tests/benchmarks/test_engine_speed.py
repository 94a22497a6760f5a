"""What the slot engine gains and costs, as ratios within one run: Flash(LDPS), shipped weights, Fashion-MNIST.

The figures are those of `python -m workbench bench`. They need a machine that does nothing else.
"""

import os

import pytest
import torch

from workbench.bench import Bench, Timed
from workbench.cli import UNIVERSAL
from workbench.config import UserError
from workbench.stages.base import Runtime
from workbench.stages.evaluate import Evaluate

NUM_IMAGES = 256
NUM_SLOTS = 64
MIN_SPEED_UP = 5.0
MAX_OVERHEAD = 1.10
MAX_PSNR_CHANGE = 0.01  # dB
MAX_GROWTH = 0.05


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    cell = Evaluate(num_images=NUM_IMAGES).replace(UNIVERSAL)
    if any(stage is None or stage.shipped() is None for stage in (cell.prior_stage(), cell.severity_stage())):
        pytest.skip("no shipped weights in data/zoo")
    try:
        cell.data.split("test")
    except UserError as error:
        pytest.skip(str(error))
    # tests run with one thread; a benchmark takes what users have
    torch.set_num_threads(os.cpu_count() or 1)
    return Bench(cell, Runtime(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def full(bench: Bench) -> Timed:
    return bench.restore(NUM_SLOTS)


def test_full_batches_are_faster_than_single_images_and_restore_the_same(
    bench: Bench, full: Timed, capsys: pytest.CaptureFixture[str]
) -> None:
    single = bench.restore(1)
    speed_up = full.images_per_second / single.images_per_second
    with capsys.disabled():
        print(
            f"\n{NUM_IMAGES} images, {full.nfe / NUM_IMAGES:.1f} NFE, {torch.get_num_threads()} threads: "
            f"{single.images_per_second:.2f} images/s one by one, {full.images_per_second:.2f} in {NUM_SLOTS} slots, "
            f"ratio {speed_up:.2f}"
        )
    assert full.nfe == pytest.approx(single.nfe, rel=1e-3)
    assert abs(full.psnr - single.psnr) < MAX_PSNR_CHANGE
    assert speed_up >= MIN_SPEED_UP


def test_a_data_set_costs_little_more_than_its_steps_in_full_batches(
    full: Timed, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\nwall time / steps in full batches: {full.overhead:.3f}")
    assert full.overhead <= MAX_OVERHEAD


def test_time_grows_as_the_number_of_images(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    few, many = bench.restore(NUM_SLOTS, NUM_IMAGES // 2), bench.restore(NUM_SLOTS, NUM_IMAGES // 2, 8)
    growth = many.images_per_second / few.images_per_second
    with capsys.disabled():
        print(f"\nimages/s with {many.num_images} images beside {few.num_images}: {growth:.3f}")
    assert growth == pytest.approx(1, abs=MAX_GROWTH)
