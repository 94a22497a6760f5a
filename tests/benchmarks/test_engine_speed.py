"""What continuous batching gains: images a second with 64 slots against 1, same weights and same evaluations."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from stubs import StubEstimator
from torch import Tensor

from workbench.config import UserError
from workbench.diffusion import DDIM
from workbench.measurement import Measurement
from workbench.metrics import psnr
from workbench.restorer import Restorer
from workbench.severity.start import Fixed
from workbench.solvers import LDPS
from workbench.stages.base import Runtime
from workbench.stages.evaluate import Evaluate
from workbench.stages.train_severity import degrade

NUM_IMAGES = 64
NUM_SLOTS = 64
SAMPLER = DDIM(num_steps=100)
START = Fixed(timestep=99)
"""Ten steps of the grid: 99, 89 ... 9."""
EXPECTED_NFE = 10
MIN_RATIO = 5.0
MAX_PSNR_DIFFERENCE = 0.01  # dB


@pytest.fixture
def problem(tmp_path: Path) -> tuple[Callable[[int], Restorer], Measurement, Tensor]:
    """Makes a restorer with the shipped networks for a number of slots; measurements of Fashion-MNIST; the truth."""
    cell = Evaluate()
    if cell.autoencoder_stage().shipped() is None or cell.prior_stage().shipped() is None:
        pytest.skip("no shipped pair in data/zoo")
    try:
        split = cell.data.split("test").first(NUM_IMAGES)
    except UserError as error:
        pytest.skip(str(error))
    # tests run with one thread; a benchmark takes what users have
    torch.set_num_threads(os.cpu_count() or 1)
    runtime = Runtime(root=tmp_path)
    autoencoder, prior = cell.autoencoder_stage().load(runtime), cell.prior_stage().load(runtime)
    index = torch.arange(NUM_IMAGES)

    def restorer(num_slots: int) -> Restorer:
        return Restorer(
            autoencoder=autoencoder,
            prior=prior,
            estimator=StubEstimator(autoencoder),
            degradation=cell.degradation,
            start=START,
            solver=LDPS(),
            sampler=SAMPLER,
            num_slots=num_slots,
        )

    return restorer, degrade(cell.degradation, split, index, seed=0), split.batch(index)


def images_per_second(restorer: Restorer, parts: list[Measurement]) -> tuple[float, dict[int, Tensor], set[int]]:
    """The rate, the restored images by id and the evaluations that an image took; after a warm-up."""
    list(restorer.restore(parts[:4]))  # counts the operations of the networks too, once
    started = time.perf_counter()
    finished = list(restorer.restore(parts))
    seconds = time.perf_counter() - started
    x_hat = {key: part.x_hat[i] for part in finished for i, key in enumerate(part.ids.tolist())}
    return len(x_hat) / seconds, x_hat, {n for part in finished for n in part.nfe.tolist()}


def test_many_slots_are_faster_and_restore_the_same(
    problem: tuple[Callable[[int], Restorer], Measurement, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    restorer, measurement, x = problem
    singles = [measurement.take([i]) for i in range(NUM_IMAGES)]
    slow, one_by_one, slow_nfe = images_per_second(restorer(1), singles)
    fast, in_slots, fast_nfe = images_per_second(restorer(NUM_SLOTS), [measurement])
    ratio = fast / slow
    with capsys.disabled():
        print(
            f"\n{NUM_IMAGES} images, {EXPECTED_NFE} NFE, {torch.get_num_threads()} threads: "
            f"{slow:.2f} images/s in 1 slot, {fast:.2f} in {NUM_SLOTS}, ratio {ratio:.2f}"
        )
    assert slow_nfe == fast_nfe == {EXPECTED_NFE}
    mean_psnr = [
        float(psnr(torch.stack([x_hat[key] for key in measurement.ids.tolist()]), x).mean())
        for x_hat in (one_by_one, in_slots)
    ]
    assert abs(mean_psnr[0] - mean_psnr[1]) < MAX_PSNR_DIFFERENCE
    assert ratio >= MIN_RATIO
