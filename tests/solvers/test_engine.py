"""The engine: an image's result and account are its own, whatever shares the slots with it."""

import gc
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any, ClassVar, Literal

import pytest
import torch
from linear_stubs import LinearAutoencoder, LinearPrior, StubDegradation, images
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.measurement import Measurement
from workbench.diffusion import DDIM, DDPM, Sampler
from workbench.restoration.engine import LOOKAHEAD, Batch, Engine
from workbench.solvers import LDPS, Networks, NoGuidance, Solver, Step

NUM_STEPS = 12
NUM_IMAGES = 23
POSITIONS = [(5 * i) % (NUM_STEPS + 1) for i in range(NUM_IMAGES)]
"""From the first timestep to past the last, where there is nothing left to do."""


def problem() -> tuple[Measurement, Tensor, Tensor]:
    """Measurements, start latents and positions of 23 images."""
    x, ids = images(NUM_IMAGES)
    severity = torch.linspace(0, 1, NUM_IMAGES)
    z = randomness.normal(ids, ("z",), (4, 4, 4))
    return StubDegradation().measure(x, severity, ids, 0), z, torch.tensor(POSITIONS)


def tasks(sizes: list[int], order: list[int] | None = None) -> list[Batch]:
    """The problem in tasks of these sizes, repeated as needed."""
    measurement, z, position = problem()
    order = list(range(NUM_IMAGES)) if order is None else order
    cut, first = [], 0
    while first < NUM_IMAGES:
        index = order[first : first + sizes[len(cut) % len(sizes)]]
        cut.append(Batch(measurement.take(index), z[index], position[index]))
        first += len(index)
    return cut


def engine(
    num_slots: int, solver: Solver | None = None, sampler: DDIM | None = None, seed: int = 0, **more: Any
) -> Engine:
    networks = Networks(LinearAutoencoder(), LinearPrior(), StubDegradation())
    return Engine(networks, solver or LDPS(), sampler or DDIM(num_steps=NUM_STEPS, eta=0.5), seed, num_slots, **more)


class Cramped(LDPS):
    """LDPS on a device whose memory ends, after the networks were evaluated, with more than `capacity` images."""

    kind: Literal["cramped"] = "cramped"  # type: ignore[assignment]
    capacity: int

    def step(self, step: Step) -> Tensor:
        advanced = super().step(step)
        if len(step.z) > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return advanced


def by_id(finished: Iterator[Batch]) -> dict[int, tuple[Tensor, Counter[str], float]]:
    results = {}
    for some in finished:
        assert some.measurement.ids.tolist() == [record.image_id for record in some.records]
        assert len(some.z) == len(some)
        for z0, record in zip(some.z, some.records, strict=True):
            assert record.image_id not in results, "an image came out twice"
            results[record.image_id] = z0, record.evaluations, record.seconds
    return results


@cache
def alone(image: int) -> Tensor:
    """The chain of one image, written out."""
    measurement, z, position = problem()
    reference = engine(1)
    key = int(measurement.ids[image])
    g = randomness.generator(0, "step", key)
    current = z[image : image + 1]
    for p in range(int(position[image]), NUM_STEPS):
        current = reference.solver.step(
            Step(
                z=current,
                position=torch.tensor([p]),
                chain=reference.chain(z.shape[1:]),
                noise=torch.randn(1, 4, 4, 4, generator=g),
                measurement=measurement.take([image]),
                networks=reference.networks,
                sampler=reference.sampler,
            )
        )
    return current[0]


@pytest.mark.parametrize("num_slots", [1, 7, 64])
@pytest.mark.parametrize("sizes", [[1], [64], [3, 9]], ids=str)
@pytest.mark.parametrize("turned", [False, True])
def test_results_are_those_of_each_image_alone(num_slots: int, sizes: list[int], turned: bool) -> None:
    order = list(range(NUM_IMAGES))[::-1] if turned else None
    results = by_id(engine(num_slots).run(tasks(sizes, order)))
    assert sorted(results) == list(range(1, NUM_IMAGES + 1))
    for image in range(NUM_IMAGES):
        torch.testing.assert_close(results[image + 1][0], alone(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_slots", [1, 7, 64])
@pytest.mark.parametrize(("solver", "counted"), [(LDPS(), ["prior_grad", "decoder_grad"]), (NoGuidance(), ["prior"])])
def test_an_image_is_charged_its_own_steps(num_slots: int, solver: Solver, counted: list[str]) -> None:
    results = by_id(engine(num_slots, solver).run(tasks([5])))
    for image, position in enumerate(POSITIONS):
        expected = {name: NUM_STEPS - position for name in counted if position < NUM_STEPS}
        assert dict(results[image + 1][1]) == expected


def test_seconds_are_shared_among_the_images_that_took_part() -> None:
    import time

    started = time.perf_counter()
    results = by_id(engine(7).run(tasks([5])))
    wall = time.perf_counter() - started
    spent = {image: seconds for image, (_, _, seconds) in results.items()}
    for image, position in enumerate(POSITIONS):
        assert (spent[image + 1] > 0) == (position < NUM_STEPS)
    assert 0 < sum(spent.values()) <= wall


def test_images_past_the_end_come_back_untouched() -> None:
    measurement, z, _ = problem()
    past = torch.full((NUM_IMAGES,), NUM_STEPS)
    test_engine = engine(4)
    results = by_id(test_engine.run([Batch(measurement, z, past)]))
    for image in range(NUM_IMAGES):
        torch.testing.assert_close(results[image + 1][0], z[image], rtol=0, atol=0)
    assert test_engine.networks.prior.network.num_images == []


@pytest.mark.parametrize("num_slots", [1, 4])
@pytest.mark.parametrize("size", [1, 3])
def test_tasks_are_pulled_as_slots_become_free(num_slots: int, size: int) -> None:
    pulled = 0

    def watched() -> Iterator[Batch]:
        nonlocal pulled
        for task in tasks([size]):
            pulled += len(task.measurement)
            yield task

    done = 0
    for some in engine(num_slots).run(watched()):
        # beyond the slots and those from which the longest is chosen: of the task that was pulled last
        assert pulled - done <= num_slots * (1 + LOOKAHEAD) + size - 1
        done += len(some)
    assert done == pulled == NUM_IMAGES


@pytest.mark.parametrize("num_slots", [2, 7, 64])
def test_slots_stay_full_while_images_wait(num_slots: int) -> None:
    test_engine = engine(num_slots)
    by_id(test_engine.run(tasks([5])))
    sizes = test_engine.networks.prior.network.num_images
    assert sum(sizes) == sum(NUM_STEPS - position for position in POSITIONS)
    assert max(sizes) <= num_slots
    tail = next((i for i, n in enumerate(sizes) if n < num_slots), len(sizes))
    assert len(sizes) - tail <= NUM_STEPS, "once a slot is empty, only images that are already in remain"
    assert sizes[tail:] == sorted(sizes[tail:], reverse=True)


def test_the_longest_enters_first() -> None:
    measurement, z, _ = problem()
    steps = torch.tensor([4, 4, 4, 4, 4, 4, 4, 12])
    task = Batch(measurement.take(slice(0, 8)), z[:8], NUM_STEPS - steps)
    test_engine = engine(2)
    order = [key for some in test_engine.run([task]) for key in some.measurement.ids.tolist()]
    # one slot takes the last image and two others, the other slot five: 20 steps each. In order of arrival: 24
    assert test_engine.networks.prior.network.num_images == [2] * 20
    assert order == [1, 2, 8, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("capacity", [1, 3, 5])
def test_a_batch_that_does_not_fit_is_halved_and_nothing_else_changes(capacity: int) -> None:
    lines: list[str] = []
    test_engine = engine(16, Cramped(capacity=capacity), say=lines.append)
    results, expected = by_id(test_engine.run(tasks([5]))), by_id(engine(16).run(tasks([5])))
    assert results.keys() == expected.keys()
    for image, (z0, evaluations, _) in expected.items():
        torch.testing.assert_close(results[image][0], z0, rtol=1e-4, atol=1e-4)
        assert results[image][1] == evaluations
    assert test_engine.num_slots == {1: 1, 3: 2, 5: 4}[capacity]
    halvings = {1: [16, 8, 4, 2], 3: [16, 8, 4], 5: [16, 8]}[capacity]
    assert lines == [
        f"{n} images at once do not fit into the device's memory: continuing with {n // 2}" for n in halvings
    ]


def test_one_image_that_does_not_fit_is_an_error_with_a_remedy() -> None:
    with pytest.raises(UserError, match="a step of one image does not fit"):
        by_id(engine(4, Cramped(capacity=0)).run(tasks([5])))


def test_no_graph_outlives_its_step() -> None:
    gc.collect()  # what other tests have left
    for some in engine(7).run(tasks([5])):
        assert not some.z.requires_grad
        graphs = [t for t in gc.get_objects() if issubclass(type(t), Tensor) and t.grad_fn is not None]
        assert graphs == []


def test_positions_of_a_task_are_not_changed_in_place() -> None:
    (task,) = tasks([NUM_IMAGES])
    z = task.z.clone()
    by_id(engine(7).run([task]))
    assert task.position.tolist() == POSITIONS
    torch.testing.assert_close(task.z, z, rtol=0, atol=0)


def test_no_tasks_give_nothing() -> None:
    assert list(engine(4).run([])) == []


@pytest.mark.parametrize(
    ("sampler", "differs"), [(DDIM(num_steps=NUM_STEPS), False), (DDPM(num_steps=NUM_STEPS), True)]
)
def test_the_seed_matters_where_noise_is_drawn(sampler: Sampler, differs: bool) -> None:
    first, again, other = (by_id(engine(7, sampler=sampler, seed=seed).run(tasks([5]))) for seed in (0, 0, 1))
    # the last step draws nothing
    image = 1 + next(i for i, position in enumerate(POSITIONS) if position < NUM_STEPS - 1)
    torch.testing.assert_close(first[image][0], again[image][0], rtol=0, atol=0)
    assert torch.equal(first[image][0], other[image][0]) != differs


def test_it_neither_reads_nor_changes_the_global_generator() -> None:
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first = by_id(engine(7).run(tasks([5])))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    again = by_id(engine(7).run(tasks([5])))
    for image in first:
        torch.testing.assert_close(first[image][0], again[image][0], rtol=0, atol=0)


class Astray(NoGuidance):
    """Sends the latents of image 3 and image 8 off at their seventh timestep."""

    kind: Literal["astray"] = "astray"  # type: ignore[assignment]
    to: float = 0.0

    def step(self, step: Step) -> Tensor:
        advanced = super().step(step)
        gone = ((step.measurement.ids == 3) | (step.measurement.ids == 8)) & (step.position == 6)
        return torch.where(gone.reshape(-1, 1, 1, 1), 1 / torch.tensor(self.to), advanced)


def after_six_steps(measurement: Measurement, z: Tensor) -> Tensor:
    """The latent of one image after the first six unguided steps."""
    seen: list[Tensor] = []

    class Watching(NoGuidance):
        def step(self, step: Step) -> Tensor:
            seen.append(step.z)
            return super().step(step)

    by_id(engine(1, Watching()).run([Batch(measurement, z[None], torch.tensor([0]))]))
    return seen[6][0]


@pytest.mark.parametrize("num_slots", [1, 7, 64])
@pytest.mark.parametrize("to", [0.0, 1e-3], ids=["infinite", "a thousand"])
def test_an_image_that_diverges_leaves_with_its_last_sound_latent(num_slots: int, to: float) -> None:
    measurement, z, _ = problem()
    begin = torch.zeros(NUM_IMAGES, dtype=torch.int64)
    finished = list(engine(num_slots, Astray(to=to)).run([Batch(measurement, z, begin)]))
    diverged = {record.image_id: record.diverged for some in finished for record in some.records}
    assert {key for key, flag in diverged.items() if flag} == {3, 8}
    results = by_id(iter(finished))
    free = by_id(engine(num_slots, NoGuidance()).run([Batch(measurement, z, begin)]))
    for key in diverged:
        # the step that led astray has been paid for
        assert results[key][1] == {"prior": 7 if diverged[key] else NUM_STEPS}
        expected = after_six_steps(measurement.take([key - 1]), z[key - 1]) if diverged[key] else free[key][0]
        torch.testing.assert_close(results[key][0], expected, rtol=1e-4, atol=1e-4)


class Drawing(NoGuidance):
    """Adds noise of its own."""

    kind: Literal["drawing"] = "drawing"  # type: ignore[assignment]
    draws_noise: ClassVar[bool] = True

    def step(self, step: Step) -> Tensor:
        assert step.solver_noise is not None
        assert not torch.equal(step.solver_noise, step.noise)
        return super().step(step) + 0.1 * step.solver_noise


@pytest.mark.parametrize("sampler", [DDIM(num_steps=NUM_STEPS), DDPM(num_steps=NUM_STEPS)], ids=lambda s: s.kind)
def test_a_solvers_own_noise_is_each_images_own(sampler: Sampler) -> None:
    one, many = (by_id(engine(slots, Drawing(), sampler).run(tasks([5]))) for slots in (1, 7))
    other = by_id(engine(7, Drawing(), sampler, seed=1).run(tasks([5])))
    for key in one:
        torch.testing.assert_close(one[key][0], many[key][0], rtol=1e-4, atol=1e-4)
        assert torch.equal(one[key][0], other[key][0]) == (POSITIONS[key - 1] >= NUM_STEPS)


def test_noise_is_drawn_only_where_it_is_used() -> None:
    seen: list[Step] = []

    class Watching(NoGuidance):
        def step(self, step: Step) -> Tensor:
            seen.append(step)
            return super().step(step)

    by_id(engine(64, Watching(), DDIM(num_steps=NUM_STEPS)).run(tasks([64])))
    assert all(step.solver_noise is None and not step.noise.any() for step in seen)
