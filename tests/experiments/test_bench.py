"""The benchmark times what a cell does, and says the same of it as the cell's own results."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from command_line import CommandLine
from small_study import tiny_cell

from workbench.experiments.bench import CPU_SLOTS, Bench
from workbench.reporting.bench import batch_table, growth_table, part_table
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.rows import ROWS
from workbench.stages.runtime import Runtime


@pytest.fixture(scope="module")
def cell(images: Path) -> Evaluate:
    return tiny_cell(images)


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def bench(cell: Evaluate, runtime: Runtime) -> Bench:
    return Bench(cell, runtime)


@pytest.mark.parametrize("num_slots", [1, 4, 64])
def test_it_restores_the_images_of_the_cell(num_slots: int, bench: Bench, cell: Evaluate, runtime: Runtime) -> None:
    timed = bench.restore(num_slots)
    rows = pd.read_parquet(cell.ensure(runtime) / ROWS)
    assert (timed.num_slots, timed.num_images) == (num_slots, cell.num_images)
    assert timed.nfe == rows["nfe"].sum()
    assert timed.psnr == pytest.approx(rows["psnr"].mean(), abs=1e-3)
    assert timed.flops == pytest.approx(rows["flops"].sum())
    assert 0 < timed.start_seconds < timed.seconds
    assert timed.images_per_second * timed.seconds == pytest.approx(cell.num_images)
    assert timed.overhead == pytest.approx(timed.seconds * num_slots / (timed.nfe * timed.step_seconds))


def test_copies_cost_what_the_originals_do(bench: Bench) -> None:
    once, thrice = bench.restore(4, 3), bench.restore(4, 3, 3)
    assert (once.num_images, thrice.num_images) == (3, 9)
    assert thrice.nfe == 3 * once.nfe
    assert thrice.flops == pytest.approx(3 * once.flops)


def test_parts_add_up_to_the_whole(bench: Bench) -> None:
    parts = bench.parts(bench.restore(4))
    whole = parts.pop("whole restoration")
    assert sum(part.times * part.flops for part in parts.values()) == pytest.approx(whole.flops)
    assert parts["start rule"].flops == pytest.approx(0, abs=1), "the encoder's own variance is free"
    # the start rule's time is what the restoration spent before its steps, less an encoding timed apart: noise on it
    assert all(part.milliseconds > 0 for name, part in parts.items() if name != "start rule")


def test_memory_ends_the_list_of_slots(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(bench.slots()) == CPU_SLOTS

    def step_seconds(num_slots: int) -> float:
        if num_slots > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 1.0

    monkeypatch.setattr(bench, "step_seconds", step_seconds)
    assert tuple(bench.slots()) == (1, 8)


def test_tables_hold_the_ratios(bench: Bench) -> None:
    few, many = bench.restore(1), bench.restore(4)
    batches = batch_table([few, many])
    assert batches.index.tolist() == [1, 4]
    assert batches.loc[4, "speed-up"] == pytest.approx(few.seconds / many.seconds)
    assert batches.loc[1, "change, dB"] == 0
    grown = growth_table(few, many)
    assert grown["rate / first"].tolist() == pytest.approx([1, many.images_per_second / few.images_per_second])
    shares = part_table(bench.parts(many))["% of the time"]
    assert shares["whole restoration"] == pytest.approx(100)


def test_weights_that_do_not_ship_are_refused_before_anything_runs(
    cli: CommandLine, images: Path, no_training: None
) -> None:
    flags = ("--data.kind=npy", f"--data.path={images}", "--data.size=16", "--data.channels=1")
    assert "bench needs shipped weights" in cli.refuses("bench", *flags)
