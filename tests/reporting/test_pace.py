"""Estimates of what is left: measured here where that says something, in proportion to images and networks."""

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch

from workbench.autoencoders import KL, PCA, Tiny
from workbench.core.config import UserError
from workbench.data import Npy
from workbench.diffusion import UNetRecipe
from workbench.reporting.pace import Pace
from workbench.stages.base import Stage
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.provenance import PROVENANCE
from workbench.stages.runtime import Runtime
from workbench.stages.train.encode_latents import EncodeLatents
from workbench.stages.train.train_autoencoder import TrainAutoencoder
from workbench.stages.train.train_prior import TrainPrior


class Work(Stage):
    name: ClassVar[str] = "work"
    seconds_per_effort: ClassVar[float] = 0.5

    size: int = 2
    cost: float = 1.0

    def effort(self) -> float:
        return float(self.size)

    def relative_cost(self) -> float:
        return self.cost

    def work(self, folder: Path, runtime: Runtime) -> None:
        (folder / "value.txt").write_text(str(self.size))


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(tmp_path)


def finished(stage: Stage, seconds: float, runtime: Runtime, **more: Any) -> None:
    """What a finished stage leaves that is said to have taken so long."""
    folder = stage.folder(runtime)
    folder.mkdir(parents=True)
    record = {"wall_seconds": seconds, "effort": stage.effort(), "relative_cost": stage.relative_cost()}
    (folder / PROVENANCE).write_text(json.dumps(record | {"resumed": False, **more}))


def seconds(stage: Stage, runtime: Runtime) -> float:
    return Pace(runtime).seconds(stage)


def test_of_what_was_made_beside_others_its_share_of_the_time_counts(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    finished(Work(size=200), 40.0, runtime, device="CPU x86_64", threads=2)
    assert seconds(Work(size=1000), runtime) == pytest.approx(100)
    finished(Work(size=300), 60.0, runtime, device="NVIDIA H200", threads=2)  # 80 s for 500 in all
    assert seconds(Work(size=1000), runtime) == pytest.approx(160)


def test_the_first_estimate_is_nominal_and_later_ones_are_measured_here(runtime: Runtime) -> None:
    assert seconds(Work(size=1000), runtime) == 500
    finished(Work(size=200), 40.0, runtime)
    assert seconds(Work(size=1000), runtime) == pytest.approx(200)
    finished(Work(size=400), 200.0, runtime)  # 240 s for 600 in all
    assert seconds(Work(size=1000), runtime) == pytest.approx(400)
    finished(Work(size=800), 0.1, runtime, resumed=True)
    assert seconds(Work(size=1000), runtime) == pytest.approx(400), "a resumed stage says nothing of the whole"


def test_small_runs_which_are_mostly_start_up_say_nothing_of_large_ones(runtime: Runtime) -> None:
    """Seen: 24 minutes were left, and 323 after a smoke run."""
    before = seconds(Work(size=3000), runtime)
    for size in (2, 3, 4):
        finished(Work(size=size), 20.0, runtime)
    assert seconds(Work(size=3000), runtime) == before
    assert seconds(Work(size=8), runtime) == pytest.approx(8 * 60 / 9), "of runs as small they do"


def test_runs_of_like_networks_come_before_others(runtime: Runtime) -> None:
    finished(Work(size=100, cost=1.0), 100.0, runtime)
    assert seconds(Work(size=100, cost=16.0), runtime) == pytest.approx(1600), "in proportion, where there is no better"
    finished(Work(size=100, cost=8.0), 400.0, runtime)  # large networks use the machine better
    assert seconds(Work(size=100, cost=16.0), runtime) == pytest.approx(800)
    assert seconds(Work(size=100, cost=1.5), runtime) == pytest.approx(150)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", '{"files": 3}', "{", '{"wall_seconds": "x", "effort": 1, "resumed": false}', "[" * 10_000],
)
def test_damaged_entries_say_nothing(content: str, runtime: Runtime) -> None:
    finished(Work(size=100), 200.0, runtime)
    finished(Work(size=200), 9000.0, runtime)
    (Work(size=200).folder(runtime) / PROVENANCE).write_text(content)
    assert seconds(Work(size=1000), runtime) == 2000


def test_runs_of_earlier_versions_have_the_cost_of_the_default_networks(runtime: Runtime) -> None:
    finished(Work(size=100), 200.0, runtime)
    path = Work(size=100).folder(runtime) / PROVENANCE
    record = json.loads(path.read_text())
    del record["relative_cost"]
    path.write_text(json.dumps(record))
    assert seconds(Work(size=1000), runtime) == 2000


def cost(stage: type[Stage], size: int = 32, channels: Literal[1, 3] = 1, **fields: Any) -> float:
    """The relative cost of a stage on images of this shape, of which no file is read."""
    tree = {name: getattr(Evaluate(), name) for name in stage.model_fields if name in Evaluate.model_fields}
    data = Npy(path=Path("images.npy"), size=size, channels=channels)
    return stage.model_construct(**{**tree, "data": data, **fields}).relative_cost()


def test_costs_grow_with_images_channels_and_networks() -> None:
    assert cost(EncodeLatents) == pytest.approx(1)
    assert cost(TrainPrior) == pytest.approx(1)
    assert cost(Evaluate) == pytest.approx(1, rel=0.01)
    for stage in (EncodeLatents, TrainPrior, TrainAutoencoder, Evaluate):
        assert cost(stage, 64) == pytest.approx(4 * cost(stage), rel=0.1), "pixels"
        assert cost(stage, 256) >= 60 * cost(stage)
    assert 1.5 < cost(EncodeLatents, channels=3) < 2, "the networks' inner layers are the same"
    assert 2.5 < cost(EncodeLatents, autoencoder=Tiny(width=64)) < 4
    assert cost(EncodeLatents, autoencoder=PCA()) < 0.5 < 1.5 < cost(EncodeLatents, autoencoder=KL())
    wide = UNetRecipe(block_out_channels=(128, 256))
    assert 3.5 < cost(TrainPrior, prior=wide) < 4.5
    assert 2 < cost(Evaluate, prior=wide) < 4
    shorter = Evaluate().replace({"sampler.num_steps": 50}).sampler
    assert cost(Evaluate, sampler=shorter) == pytest.approx(0.1, rel=0.1)
    assert cost(Evaluate, start=Evaluate().replace({"start.kind": "full"}).start) == pytest.approx(5, rel=0.05)


def test_latents_that_the_prior_cannot_take_have_no_cost(runtime: Runtime) -> None:
    """Of 28 px images they are 7 x 7: `show` ended in torch's own error."""
    for stage in (TrainPrior, Evaluate):
        with pytest.raises(UserError, match="the prior needs latents divisible by 2, but these are 7 x 7"):
            cost(stage, 28)
    too_odd = Evaluate().replace({"data": {"kind": "npy", "path": "images.npy", "size": 28}})
    assert Pace(runtime).seconds(too_odd) == too_odd.effort() * too_odd.seconds_per_effort
