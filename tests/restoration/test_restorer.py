"""The restorer on linear networks: what belongs to an image stays with it, and every evaluation is paid for."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import pytest
import torch
from linear_stubs import (
    CHANNELS,
    CurvedDegradation,
    LinearAutoencoder,
    LinearPrior,
    StubDegradation,
    StubEstimator,
    images,
    measurement_of,
)
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.diffusion import DDIM
from workbench.restoration import Restored, Restorer
from workbench.restoration.engine import LOOKAHEAD
from workbench.restoration.record import Column
from workbench.restoration.restorer import GROUPS
from workbench.severity.start import Fixed, Full, Official, OracleVariance, SNRMatch, StartRule
from workbench.solvers import LDPS, DecodeOnly, NoGuidance, Solver

SHAPE = (1, 8, 8)
NUM_IMAGES = 11
NUM_STEPS = 40


def variance(view: Tensor) -> Tensor:
    """From very mild to hopeless, by the brightness of the top left pixel: every image has its own start."""
    return 0.005 + 1.1 * view[:, 0, 0, 0].clamp(0, 1) ** 2


def restorer(**changes: Any) -> Restorer:
    autoencoder = LinearAutoencoder(scale=1.6, shift=0.3)
    given: dict[str, Any] = {
        "autoencoder": autoencoder,
        "prior": LinearPrior(),
        "estimator": StubEstimator(autoencoder, variance),
        "degradation": StubDegradation(noise_std=0.02),
        "start": SNRMatch(),
        "solver": LDPS(),
        "sampler": DDIM(num_steps=NUM_STEPS, eta=0.5),
        "num_slots": 4,
    }
    return Restorer(**(given | changes))


def measurement() -> Measurement:
    x, ids = images(NUM_IMAGES)
    return StubDegradation(noise_std=0.02).measure(x, torch.linspace(0, 1, NUM_IMAGES), ids, 0)


def batches(size: int = 3, order: list[int] | None = None) -> Iterator[Measurement]:
    order = order or list(range(NUM_IMAGES))
    for first in range(0, NUM_IMAGES, size):
        yield measurement().take(order[first : first + size])


COLUMNS = ("ids", "x_hat", *(name for name, value in vars(Restored).items() if isinstance(value, Column)))


def joined(parts: Iterator[Restored]) -> dict[str, Tensor]:
    """All that came out, by field, in the order of the ids."""
    results = list(parts)
    whole = {name: torch.cat([getattr(part, name) for part in results]) for name in COLUMNS}
    order = whole["ids"].argsort()
    return {name: tensor[order] for name, tensor in whole.items()}


def test_every_field_has_the_image_first() -> None:
    autoencoder = LinearAutoencoder(scale=1.6, shift=0.3)
    whole = joined(restorer().restore(batches()))
    m = measurement()
    assert whole["ids"].tolist() == m.ids.tolist()
    assert whole["x_hat"].shape == (NUM_IMAGES, 1, 8, 8)
    assert whole["x_hat"].min() >= 0
    assert whole["x_hat"].max() <= 1
    assert {tuple(whole[name].shape) for name in COLUMNS if name not in ("x_hat", "z_hat")} == {(NUM_IMAGES,)}
    torch.testing.assert_close(whole["z_hat"], autoencoder.encode(m.y))
    torch.testing.assert_close(whole["var_hat"], variance(m.y))
    assert not any(tensor.requires_grad for tensor in whole.values())
    for name in ("ids", "start_timestep", "nfe", "decoder_evals", "encoder_evals"):
        assert whole[name].dtype == torch.int64, name
    assert whole["fell_back"].dtype == torch.bool
    assert (whole["seconds"] > 0).all()


def test_images_come_out_as_they_finish_and_each_with_what_is_its_own() -> None:
    results = list(restorer().restore(batches()))
    came = torch.cat([part.ids for part in results]).tolist()
    assert came != sorted(came), "the starts differ, so images overtake each other"
    m = measurement()
    for part in results:
        own = m.take([m.ids.tolist().index(key) for key in part.ids.tolist()])
        torch.testing.assert_close(part.var_hat, variance(own.y))


def test_all_of_one_measurement_come_back_in_its_order() -> None:
    order = [7, 2, 10, 0, 5]
    m = measurement().take(order)
    restored = restorer().restore_all(m)
    assert restored.ids.tolist() == m.ids.tolist()
    expected = joined(restorer().restore([m]))
    place = expected["ids"].tolist()
    torch.testing.assert_close(restored.x_hat, expected["x_hat"][[place.index(key) for key in m.ids.tolist()]])


@pytest.mark.parametrize("num_slots", [1, 64])
@pytest.mark.parametrize("size", [1, NUM_IMAGES])
def test_results_do_not_depend_on_slots_batches_or_order(num_slots: int, size: int) -> None:
    reference = joined(restorer().restore(batches()))
    turned = list(range(NUM_IMAGES))[::-1]
    other = joined(restorer(num_slots=num_slots).restore(batches(size, turned)))
    for name, expected in reference.items():
        if name not in ("seconds", "start_seconds"):
            torch.testing.assert_close(other[name], expected, rtol=1e-4, atol=1e-4, msg=name)


def test_nfe_is_what_the_start_leaves_of_the_grid() -> None:
    r = restorer()
    whole = joined(r.restore(batches()))
    grid = r.sampler.chain(r.prior.levels, (4, 4, 4)).time
    steps_left = [int((grid <= t).sum()) for t in whole["start_timestep"].tolist()]
    assert whole["nfe"].tolist() == steps_left
    assert len(set(steps_left)) > 3
    assert whole["decoder_evals"].tolist() == [n + 1 for n in steps_left]
    assert whole["encoder_evals"].tolist() == [1] * NUM_IMAGES


def test_flops_are_evaluations_times_their_unit() -> None:
    r = restorer()
    whole = joined(r.restore(batches()))
    unit = r.unit_flops(SHAPE)
    nfe = whole["nfe"].double()
    expected = nfe * (unit["prior_grad"] + unit["decoder_grad"]) + unit["decoder"] + unit["severity_encoder"]
    torch.testing.assert_close(whole["flops"].double(), expected)
    free = joined(restorer(solver=NoGuidance()).restore(batches()))
    expected = free["nfe"].double() * unit["prior"] + unit["decoder"] + unit["severity_encoder"]
    torch.testing.assert_close(free["flops"].double(), expected)


def test_unit_flops_are_those_of_the_networks() -> None:
    unit = restorer().unit_flops(SHAPE)
    matrix = 2 * CHANNELS * CHANNELS * 4 * 4  # a multiplication and an addition, on 4 x 4 places
    assert unit["prior"] == unit["decoder"] == unit["encoder"] == unit["severity_encoder"] == matrix
    # the weights are frozen: going back costs what going forth did
    assert unit["prior_grad"] == unit["decoder_grad"] == unit["encoder_grad"] == 2 * matrix
    assert unit["prior_backward"] == unit["decoder_backward"] == matrix


def test_unit_flops_leave_no_gradients_and_count_nothing() -> None:
    r = restorer()
    _ = r.unit_flops(SHAPE)
    assert all(parameter.grad is None for parameter in (*r.autoencoder.parameters(), *r.prior.parameters()))


def test_decode_only_is_the_decoded_guess_at_no_evaluation_of_the_prior() -> None:
    r = restorer(solver=DecodeOnly(), start=OracleVariance())
    _ = r.unit_flops(SHAPE)  # found by evaluating every network once
    r.prior.network.num_images.clear()
    whole = joined(r.restore(batches()))
    torch.testing.assert_close(whole["x_hat"], r.autoencoder.decode(whole["z_hat"]).clamp(0, 1))
    assert whole["nfe"].tolist() == [0] * NUM_IMAGES
    assert whole["start_timestep"].tolist() == [-1] * NUM_IMAGES
    assert whole["decoder_evals"].tolist() == [1] * NUM_IMAGES
    assert whole["encoder_evals"].tolist() == [1] * NUM_IMAGES
    assert not whole["fell_back"].any()
    assert (whole["flops"] > 0).all()
    assert (whole["seconds"] > 0).all()
    assert r.prior.network.num_images == []


def test_full_costs_the_whole_grid_and_is_no_fallback() -> None:
    whole = joined(restorer(start=Full()).restore(batches()))
    assert whole["nfe"].tolist() == [NUM_STEPS] * NUM_IMAGES
    assert whole["start_timestep"].tolist() == [999] * NUM_IMAGES
    assert not whole["fell_back"].any()


def test_falling_back_shows() -> None:
    whole = joined(restorer(start=Official(c=1.2)).restore(batches()))
    expected = 1.2 * variance(measurement().y) >= 1
    assert 0 < int(expected.sum()) < NUM_IMAGES
    assert whole["fell_back"].tolist() == expected.tolist()
    assert whole["nfe"][expected].tolist() == [NUM_STEPS] * int(expected.sum())


class Recording(StartRule):
    """Begins anywhere, and keeps what it was shown."""

    kind: Literal["recording"] = "recording"
    seen: ClassVar[list[Any]] = []

    def __call__(self, evidence: Any, chain: Any, noise: Any) -> Any:
        self.seen.append(noise)
        return Fixed(timestep=100)(evidence, chain, noise)


def test_start_noise_is_standard_normal_and_keyed_by_seed_and_image() -> None:
    def noise(seed: int, size: int) -> Tensor:
        Recording.seen.clear()
        list(restorer(start=Recording(), seed=seed).restore(batches(size)))
        return torch.cat(Recording.seen)

    first = noise(0, 3)
    torch.testing.assert_close(noise(0, NUM_IMAGES), first, rtol=0, atol=0)
    assert not torch.allclose(noise(1, 3), first)
    assert float(first.mean()) == pytest.approx(0, abs=5 / first.numel() ** 0.5)
    assert float(first.std()) == pytest.approx(1, abs=5 / (2 * first.numel()) ** 0.5)
    assert len(first.flatten(1).unique(dim=0)) == NUM_IMAGES
    measured = randomness.normal(measurement().ids, (0, "noise"), (1, 8, 8)).reshape(NUM_IMAGES, CHANNELS, 4, 4)
    correlation = torch.corrcoef(torch.stack([first.flatten(), measured.flatten()]))[0, 1]
    assert abs(float(correlation)) < 5 / first.numel() ** 0.5, "the start must not repeat the measurement's noise"


@pytest.mark.parametrize("start", [SNRMatch(), SNRMatch(channel="mmse"), Official(), Fixed(), Full()])
def test_only_oracles_need_the_truth(start: StartRule) -> None:
    def refuse(_: Measurement) -> Tensor:
        return torch.full((len(_), CHANNELS, 4, 4), float("nan"))

    without = joined(restorer(start=start).restore(batches()))
    told = joined(restorer(start=start).restore(batches(), truth=refuse))
    torch.testing.assert_close(told["x_hat"], without["x_hat"], rtol=0, atol=0)


def test_oracles_are_told_the_truth_of_their_own_images() -> None:
    r = restorer(start=OracleVariance())
    with pytest.raises(UserError, match="needs the clean images"):
        next(r.restore(batches()))
    x, ids = images(NUM_IMAGES)

    def truth(m: Measurement) -> Tensor:
        return r.autoencoder.encode(x[[ids.tolist().index(key) for key in m.ids.tolist()]])

    whole = joined(r.restore(batches(), truth))
    s2 = (whole["z_hat"] - r.autoencoder.encode(x)).flatten(1).var(1)
    chain = r.sampler.chain(r.prior.levels, (4, 4, 4))
    for v, begun in zip(s2.tolist(), whole["start_timestep"].tolist(), strict=True):
        assert begun == int(chain.time[chain.snr <= 1 / v].min())


class LinearOnly(NoGuidance):
    kind: Literal["linear_only"] = "linear_only"  # type: ignore[assignment]
    linear_only: ClassVar[bool] = True


def test_an_operator_that_the_solver_cannot_handle_is_refused_before_anything_runs() -> None:
    restorer(solver=LinearOnly())
    with pytest.raises(UserError, match="needs a linear operator"):
        restorer(solver=LinearOnly(), degradation=CurvedDegradation())


def test_measurements_are_read_as_slots_become_free() -> None:
    pulled = 0

    def watched() -> Iterator[Measurement]:
        nonlocal pulled
        for batch in batches(2):
            pulled += len(batch)
            yield batch

    done = 0
    for part in restorer(num_slots=1).restore(watched()):
        assert pulled - done <= 1 + LOOKAHEAD + 2 - 1
        done += len(part.ids)
    assert done == pulled == NUM_IMAGES


def test_finished_images_wait_for_a_group_that_is_worth_decoding() -> None:
    sizes = [len(part) for part in restorer(num_slots=8).restore(batches())]
    assert sum(sizes) == NUM_IMAGES
    assert min(sizes[:-1]) >= 8 // GROUPS
    assert max(sizes) > 1


def test_restorers_of_the_same_networks_share_what_was_counted() -> None:
    counted = restorer().counted
    first = restorer(counted=counted).unit_flops(SHAPE)
    assert restorer(counted=counted).unit_flops(SHAPE) is first


def test_a_restorer_can_be_used_again_also_after_it_was_left_half_way() -> None:
    r = restorer()
    reference = joined(r.restore(batches()))
    next(r.restore(batches()))
    again = joined(r.restore(batches()))
    for name, expected in reference.items():
        if name not in ("seconds", "start_seconds"):
            torch.testing.assert_close(again[name], expected, rtol=0, atol=0, msg=name)


class Encodes(NoGuidance):
    """A solver that also encodes, as GML-DPS does."""

    kind: Literal["encodes"] = "encodes"  # type: ignore[assignment]

    def step(self, step: Any) -> Tensor:
        step.networks.encode(step.networks.decode(step.z))
        return super().step(step)


def test_a_solvers_own_evaluations_of_encoder_and_decoder_are_counted() -> None:
    solver: Solver = Encodes()
    r = restorer(solver=solver)
    whole = joined(r.restore(batches()))
    assert torch.equal(whole["encoder_evals"], whole["nfe"] + 1)
    assert torch.equal(whole["decoder_evals"], whole["nfe"] + 1)
    unit = r.unit_flops(SHAPE)
    expected = whole["nfe"].double() * (unit["prior"] + unit["decoder"] + unit["encoder"])
    torch.testing.assert_close(whole["flops"].double(), expected + unit["decoder"] + unit["severity_encoder"])


def test_one_id_twice_under_way_is_refused() -> None:
    x, ids = images(2)
    with pytest.raises(ValueError, match="the same image id"):
        list(restorer().restore([measurement_of(x, ids[:1].repeat(2))]))


def test_flops_are_counted_at_the_images_own_size() -> None:
    r = restorer()
    assert r.unit_flops((1, 16, 16))["prior"] == 4 * r.unit_flops(SHAPE)["prior"]


@pytest.mark.parametrize("source", ["residual", "max"])
def test_a_start_that_looks_at_the_residual_pays_for_it(source: Literal["residual", "max"]) -> None:
    plain = joined(restorer().restore(batches()))
    corrected = joined(restorer(start=SNRMatch(variance=source)).restore(batches()))
    # the prediction, one more for the divergence, and three of the search; one more encoding for the divergence
    guided = corrected["nfe"] - plain["nfe"]
    assert torch.equal(corrected["decoder_evals"] - plain["decoder_evals"] - guided, torch.full((NUM_IMAGES,), 5))
    assert torch.equal(corrected["encoder_evals"] - plain["encoder_evals"], torch.ones(NUM_IMAGES, dtype=torch.int64))
    assert (corrected["start_variance"] > 0).all()
    if source == "max":
        assert (corrected["start_variance"] >= corrected["var_hat"] * (1 - 1e-5)).all()
