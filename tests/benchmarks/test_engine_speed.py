"""What the slot engine gains and costs, as ratios within one run: Flash(LDPS), shipped weights, Fashion-MNIST.

The figures are those of `python -m workbench bench`. They need a machine that does nothing else.
"""

import os

import pytest
import torch

from workbench.bench import Bench
from workbench.restoring import UNIVERSAL
from workbench.stages.evaluate import Evaluate
from workbench.stages.runtime import Runtime

NUM_IMAGES = 256
NUM_SLOTS = 64
MIN_SPEED_UP = {"float32": 4.5, "bf16": 7.0}
"""In float32 a step of one image alone already runs at a sixth of the rate of a full batch, so less can be gained."""
MAX_OVERHEAD = 1.10
MAX_PSNR_CHANGE = 0.01  # dB
MAX_GROWTH = 0.05


@pytest.fixture(scope="module")
def cell() -> Evaluate:
    cell = Evaluate(num_images=NUM_IMAGES).replace(UNIVERSAL)
    severity_stage = cell.severity_stage()
    assert severity_stage is not None
    shipped = [stage.shipped() for stage in (cell.prior_stage(), severity_stage)]
    assert None not in shipped, "what must be trained first is no benchmark"
    # tests run with one thread; a benchmark takes what users have
    torch.set_num_threads(os.cpu_count() or 1)
    return cell


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("precision", MIN_SPEED_UP)
def test_full_batches_are_faster_than_single_images_and_restore_the_same(
    cell: Evaluate, runtime: Runtime, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(cell.replace(precision=precision), runtime)
    full, single = bench.restore(NUM_SLOTS), bench.restore(1)
    speed_up = full.images_per_second / single.images_per_second
    with capsys.disabled():
        print(
            f"\n{precision}, {NUM_IMAGES} images, {full.nfe / NUM_IMAGES:.1f} NFE, {torch.get_num_threads()} threads: "
            f"{single.images_per_second:.2f} images/s one by one, {full.images_per_second:.2f} in {NUM_SLOTS} slots, "
            f"ratio {speed_up:.2f}; wall time / steps in full batches {full.overhead:.3f}"
        )
    assert full.nfe == pytest.approx(single.nfe, rel=1e-3)
    assert abs(full.psnr - single.psnr) < MAX_PSNR_CHANGE
    assert speed_up >= MIN_SPEED_UP[precision]
    assert full.overhead <= MAX_OVERHEAD


def test_time_grows_as_the_number_of_images(
    cell: Evaluate, runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    """With starts by the encoder's own variance. Where the residual doubts it, some images need far more steps than a
    slot's share of all: with 128 images these are the time, so more images are restored at a higher rate.
    """
    for variance in ("encoder", "fused"):
        bench = Bench(cell.replace({"start.variance": variance}), runtime)
        few, many = bench.restore(NUM_SLOTS, NUM_IMAGES // 2), bench.restore(NUM_SLOTS, NUM_IMAGES // 2, 8)
        growth = many.images_per_second / few.images_per_second
        with capsys.disabled():
            print(f"\n{variance}: images/s with {many.num_images} images beside {few.num_images}: {growth:.3f}")
        assert growth >= 1 - MAX_GROWTH
        if variance == "encoder":
            assert growth <= 1 + MAX_GROWTH
