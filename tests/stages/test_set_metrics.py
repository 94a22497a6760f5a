"""Figures of all images of a cell together, and metrics that are absent, from the stage to the page."""

import json
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
from safetensors.torch import load_file
from small_study import tiny_cell
from torch import Tensor, nn

from workbench.core.config import UserError
from workbench.metrics import Absent, Comparison, Estimate, Metric, MetricWeights, SetMetric
from workbench.metrics.family import Columns
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.evaluate_tuned import EvaluateTuned
from workbench.stages.rows import ABSENT, EXAMPLES, ROWS, SET_METRICS
from workbench.stages.runtime import Runtime

HERE: dict[str, nn.Module] = {}
"""The network of `Brightness`, where it is available."""


class MeanDistance(SetMetric):
    """The distance of the mean images: a figure of a set without weights."""

    fewest_images: int = 2

    @property
    def figure(self) -> str:
        return "mean_distance"

    @property
    def fewest(self) -> int:
        return self.fewest_images

    def features(self, found: Comparison) -> tuple[Tensor, Tensor] | None:
        return found.x.flatten(1), found.x_hat.flatten(1)

    def of_set(self, clean: Tensor, restored: Tensor) -> Estimate:
        distance = float((clean.mean(0) - restored.mean(0)).norm())
        return Estimate(distance, float("nan"), float("nan"), len(clean))


class Brightness(Metric):
    """A metric of a network that may be absent."""

    columns: ClassVar[Columns] = {"brightness": None}

    def load(self, weights: MetricWeights, image_shape: tuple[int, int, int]) -> nn.Module | Absent | None:
        return HERE.get("network", Absent("Brightness is absent: no weights"))

    def __call__(self, found: Comparison) -> dict[str, Tensor]:
        network = found.networks.get(self.kind)
        return {} if network is None else {"brightness": network(found.x_hat).flatten(1).mean(1)}


def cell_of(images: Path, *metrics: Metric, **fields: Any) -> Evaluate:
    cell = tiny_cell(images, **fields)
    return type(cell)(
        **{name: getattr(cell, name) for name in type(cell).model_fields} | {"metrics": (*cell.metrics, *metrics)}
    )


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(tmp_path_factory.mktemp("runs"))


@pytest.fixture(autouse=True)
def nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.HERE", {})


def test_a_figure_of_the_set_is_in_a_file_beside_the_rows(images: Path, runtime: Runtime) -> None:
    cell = cell_of(images, MeanDistance())
    cell.check()
    folder = cell.ensure(runtime)
    (name, figure), *others = json.loads((folder / SET_METRICS).read_text()).items()
    assert (name, others) == ("mean_distance", [])
    assert figure["num_images"] == cell.num_images
    assert (figure["low"], figure["high"]) == (None, None)
    kept = {name: value / 255 for name, value in load_file(folder / EXAMPLES).items()}  # rounded to 8 bits
    expected = (kept["clean"].mean(0) - kept["restored"].mean(0)).norm()
    assert figure["mean"] == pytest.approx(float(expected), abs=0.02)
    assert name not in pd.read_parquet(folder / ROWS)


def test_it_stays_with_a_tuned_cell_and_is_left_out_of_its_trials(images: Path, runtime: Runtime) -> None:
    plain = cell_of(images, MeanDistance(fewest_images=3))
    fields = {name: getattr(plain, name) for name in type(plain).model_fields}
    tuned = EvaluateTuned(**fields, num_values=3, max_extensions=0, num_val_images=2)
    folder = tuned.ensure(runtime)
    best = pd.read_parquet(folder / ROWS)["tuned_value"][0]
    (power,) = (k for k in (-1, 0, 1) if tuned.value(k) == pytest.approx(best))
    there = tuned.plain(power).folder(runtime) / SET_METRICS
    assert (folder / SET_METRICS).read_text() == there.read_text()
    trial = tuned.trial(power).folder(runtime)
    assert not (trial / SET_METRICS).exists()
    assert "needs at least 3 images, not 2" in (trial / f"{MeanDistance().kind}{ABSENT}").read_text()


def test_too_few_images_are_refused_before_anything_is_computed(images: Path) -> None:
    with pytest.raises(UserError, match=r"needs at least 1,000 images, not \d: set --num_images, or leave it out"):
        cell_of(images, MeanDistance(fewest_images=1000)).check()
    with pytest.raises(UserError, match="FID needs at least 2,049 images"):
        tiny_cell(images, metrics="psnr,fid").check()
    with pytest.raises(UserError, match="psnr is given twice"):
        tiny_cell(images, metrics="psnr,psnr")


def test_a_metric_whose_weights_come_later_makes_the_results_outdated(images: Path, runtime: Runtime) -> None:
    cell = cell_of(images, Brightness(), seed=1)
    folder = cell.ensure(runtime)
    assert (folder / f"{Brightness().kind}{ABSENT}").read_text() == "Brightness is absent: no weights"
    assert "brightness" not in pd.read_parquet(folder / ROWS)
    assert cell.outdated(folder) is None
    HERE["network"] = nn.Identity()
    assert "whose weights are now available" in str(cell.outdated(folder))
    again = cell.replace({"seed": 2}).ensure(runtime)
    found = pd.read_parquet(again / ROWS)["brightness"]
    restored = load_file(again / EXAMPLES)["restored"] / 255
    assert found.to_numpy() == pytest.approx(restored.flatten(1).mean(1).numpy(), abs=0.01)
    assert cell.outdated(again) is None


def test_old_results_keep_their_identities_and_paths_are_none_of_it(images: Path) -> None:
    cell = tiny_cell(images)
    assert cell.replace({"metric_weights.vgg16": "somewhere"}).identity == cell.identity
    assert cell.replace({"metrics": "psnr,ssim,dists"}).identity != cell.identity
