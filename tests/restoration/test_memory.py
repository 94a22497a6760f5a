"""Memory of a restoration: predictions agree with what is allocated, and too little is known before the first step."""

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch

from workbench.autoencoders import Pretrained
from workbench.core.config import UserError
from workbench.core.encoder_choice import EncoderChoice
from workbench.core.flop_counter import flop_counter
from workbench.degradations import GaussianBlur
from workbench.experiments.restore import restoring_cell
from workbench.experiments.restore.cell import load_restorer
from workbench.restoration import Restorer, memory
from workbench.restoration.device_memory import MARGIN, StepMemory, free_memory, peak, size_text
from workbench.restoration.memory import decoding_memory, fitted, step_memory
from workbench.solvers import LDPS, MMPS, DecodeOnly, Solver
from workbench.solvers.base import middle_step
from workbench.stages.runtime import Runtime

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> Restorer:
    """The restorer of photographs, from the residual."""
    cell = restoring_cell("gaussian_blur", EncoderChoice.NONE, None, {})
    return load_restorer(cell, Runtime(tmp_path_factory.mktemp("runs")))


def allocated(restorer: Restorer, side: int) -> float:
    return peak(memory._step(restorer, side), CPU)


def test_the_counter_counts_what_is_alive_at_once() -> None:
    def work() -> None:
        first = torch.ones(1000, 1000)
        halves = [first * i for i in range(3)]
        del halves
        torch.ones(500, 500)

    assert peak(work, CPU) == pytest.approx(4 * 4e6, rel=0.01)


@pytest.mark.parametrize("solver", [LDPS(), MMPS(share=4)], ids=lambda solver: solver.kind)
def test_two_small_images_tell_of_a_larger_one(solver: Solver, restorer: Restorer) -> None:
    restorer = replace(restorer, solver=solver)
    predicted = step_memory(restorer).of(256**2) / MARGIN
    assert allocated(restorer, 256) == pytest.approx(predicted, rel=0.15)


@pytest.mark.parametrize("solver", [LDPS(), MMPS(share=4)], ids=lambda solver: solver.kind)
def test_activations_that_are_computed_again_take_less_memory_and_change_nothing(
    solver: Solver, restorer: Restorer
) -> None:
    kept = replace(restorer, solver=solver)
    again = replace(kept, checkpointing=True, counted={})
    assert allocated(again, 128) < 0.75 * allocated(kept, 128)
    x = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    operator = GaussianBlur()
    measurement = operator.measure(x, torch.tensor([0.5]), torch.tensor([1]), 0)
    z = torch.randn(1, 12, 12, 12, generator=torch.Generator().manual_seed(1))
    steps = [solver.step(middle_step(z, measurement, r.networks(), restorer.sampler)) for r in (kept, again)]
    assert torch.allclose(*steps, atol=1e-6)
    one, other = (r.unit_flops((3, 48, 48)) for r in (kept, again))
    assert one["prior_grad"] < other["prior_grad"] <= 1.01 * (one["prior_grad"] + one["prior"])
    assert other["decoder_grad"] == pytest.approx(one["decoder_grad"] + one["decoder"], rel=0.02)
    assert other["prior"] == one["prior"]


def test_as_many_at_once_as_fit(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALL_IMAGE", 0)
    many = replace(restorer, num_slots=64, slot_pixels=None)
    shape = (3, 64, 64)
    one = step_memory(many).of(64**2)
    for free, slots in ((1e12, 64), (3.5 * one / memory.SHARE, 3)):
        monkeypatch.setattr(memory, "free_memory", lambda _, free=free: free)
        assert fitted(many, shape).num_slots == slots
    assert not fitted(many, shape).checkpointing


def test_too_little_memory(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    shape, said = (3, 512, 512), list[str]()
    restorer = replace(restorer, say=said.append)
    kept = step_memory(restorer).of(512**2)
    less = step_memory(replace(restorer, checkpointing=True)).of(512**2)
    monkeypatch.setattr(memory, "free_memory", lambda _: (kept + less) / 2 / memory.SHARE)
    assert fitted(restorer, shape).checkpointing
    assert "activations are computed again instead of kept" in said[0]
    monkeypatch.setattr(memory, "free_memory", lambda _: less / 2)
    with pytest.raises(UserError, match=r"a step of one 512 x 512 image needs about .* GiB of memory, and .* are free"):
        fitted(restorer, shape)


def test_free_memory_is_known_here() -> None:
    free = free_memory(CPU)
    assert free is None or 2**26 < free < 2**50
    assert size_text(3 * 2**30) == "3.0 GiB"
    assert StepMemory(10, 2).of(5, 3) == pytest.approx(MARGIN * 40)


def test_small_images_need_no_prediction(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "step_memory", lambda _: pytest.fail("measured"))
    assert fitted(restorer, (3, 64, 64)).num_slots == restorer.num_slots


def of_a_model(restorer: Restorer, folder: Path) -> Restorer:
    """A restorer that only decodes, with the autoencoder of a pretrained model for 32 px images."""
    torch.manual_seed(0)
    autoencoder = tiny_models.vae()
    autoencoder.save_pretrained(folder)
    loaded = Pretrained(source=str(folder), scaling="config").build(3).requires_grad_(False)
    return replace(restorer, solver=DecodeOnly(), autoencoder=loaded, counted={}, measured={})


def test_without_guidance_a_large_image_is_decoded_in_tiles(
    restorer: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    made = replace(of_a_model(restorer, tmp_path / "vae"), say=said.append)
    z = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    whole, in_tiles = made.autoencoder.decode(z), made.autoencoder.decode_in_tiles(z)
    middle = slice(2, 14)
    assert not torch.equal(whole, in_tiles), "it has tiles of 16 px"
    assert float((whole - in_tiles)[..., middle, middle].abs().mean()) < 0.5 * float(whole.std())
    assert torch.equal(made.autoencoder.decode(z), whole), "the model is left as it was"
    most = peak(lambda: made.autoencoder.decode_in_tiles(z[:1]), CPU)
    assert most < 0.5 * peak(memory._decoding(made, 128), CPU)

    shape = (3, 512, 512)
    needed = decoding_memory(made).of(512**2)
    monkeypatch.setattr(memory, "free_memory", lambda _: 2 * needed / memory.SHARE)
    assert not fitted(made, shape).in_tiles
    monkeypatch.setattr(memory, "free_memory", lambda _: needed / 2)
    fit = fitted(made, shape)
    assert fit.in_tiles
    assert "decoding in tiles" in said[-1]
    counts = []
    for each in (made, fit):
        with flop_counter() as counter, torch.no_grad():
            each._decode(torch.zeros(1, 4, 64, 64))
        counts.append(counter.get_total_flops())
    assert counts[1] < 0.8 * counts[0], "attention within tiles is counted, not across all of them"


def test_restoring_in_python_takes_as_many_at_once_as_fit(restorer: Restorer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALL_IMAGE", 0)
    slots, original = list[int](), Restorer._restore

    def spied(self: Restorer, *args: object) -> object:
        slots.append(self.num_slots)
        return original(self, *args)

    monkeypatch.setattr(Restorer, "_restore", spied)
    x = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    measurement = restorer.degradation.measure(x, torch.full((3,), 0.5), torch.arange(3), 0)
    many = replace(restorer, num_slots=64, slot_pixels=None, solver=DecodeOnly())
    free = decoding_memory(many).of(int(2.5 * 32**2)) / memory.SHARE
    monkeypatch.setattr(memory, "free_memory", lambda _: free)
    assert len(many.restore_all(measurement).x_hat) == 3
    assert slots == [2]
