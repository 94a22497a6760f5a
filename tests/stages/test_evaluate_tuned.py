import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_study import tiny_cell

from workbench.core.config import UserError
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.evaluate_tuned import TRIALS, EvaluateTuned
from workbench.stages.provenance import PROVENANCE
from workbench.stages.rows import EXAMPLES, ROWS
from workbench.stages.runtime import Runtime
from workbench.stages.train.train_autoencoder import TrainAutoencoder
from workbench.stages.train.train_prior import TrainPrior
from workbench.stages.train.train_severity import TrainSeverity

BEST = 8.0
OWN = {"tuned", "ratio", "num_values", "num_val_images", "tolerance", "max_extensions"}


@pytest.fixture(scope="module")
def cell(images: Path) -> EvaluateTuned:
    """Tried are 1, 2 and 4."""
    plain = tiny_cell(images)
    fields = {name: getattr(plain, name) for name in Evaluate.model_fields}
    return EvaluateTuned(**fields, num_values=3, num_val_images=4)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[Evaluate]:
    """The evaluations that were done, without networks: PSNR falls with the log-distance from BEST."""
    done: list[Evaluate] = []

    def work(self: Evaluate, folder: Path, runtime: Runtime) -> None:
        done.append(self)
        scale = getattr(self.solver, "guidance_scale", math.nan)
        psnr = 30 - abs(math.log2(scale / BEST)) + np.arange(self.num_images)
        pd.DataFrame({"image_id": np.arange(self.num_images), "psnr": psnr}).to_parquet(folder / ROWS)
        (folder / EXAMPLES).write_bytes(b"pictures")

    monkeypatch.setattr(Evaluate, "work", work)
    for upstream in (TrainAutoencoder, TrainPrior, TrainSeverity):
        monkeypatch.setattr(upstream, "attempt", lambda self, runtime: [])
    return done


def rows(cell: EvaluateTuned, runtime: Runtime) -> pd.DataFrame:
    return pd.read_parquet(cell.ensure(runtime) / ROWS)


def scales(done: list[Evaluate]) -> list[tuple[str, float]]:
    return [(cell.split, cell.solver.guidance_scale) for cell in done]  # type: ignore[union-attr]


def test_the_best_on_validation_is_reported_on_test(
    cell: EvaluateTuned, evaluated: list[Evaluate], tmp_path: Path
) -> None:
    found = rows(cell.replace({"solver.guidance_scale": BEST}), Runtime(tmp_path))
    assert scales(evaluated) == [("val", 4.0), ("val", 8.0), ("val", 16.0), ("test", 8.0)]
    assert {done.num_images for done in evaluated[:3]} == {4}
    assert len(found) == cell.num_images
    assert set(found["tuned_value"]) == {BEST}
    assert set(found["num_trials"]) == {3}
    assert set(found["val_psnr"]) == {30 + 1.5}
    assert not found["at_edge"].any()


def test_an_optimum_at_an_edge_is_followed_until_it_is_inside(
    cell: EvaluateTuned, evaluated: list[Evaluate], tmp_path: Path
) -> None:
    folder = cell.ensure(Runtime(tmp_path))
    assert scales(evaluated) == [("val", scale) for scale in (1.0, 2.0, 4.0, 8.0, 16.0)] + [("test", BEST)]
    assert [trial["value"] for trial in json.loads((folder / TRIALS).read_text())] == [1, 2, 4, 8, 16]
    assert not pd.read_parquet(folder / ROWS)["at_edge"].any()
    down = rows(cell.replace({"solver.guidance_scale": 32.0}), Runtime(tmp_path))
    assert set(down["tuned_value"]) == {BEST}
    assert set(down["num_trials"]) == {5}, "16, 32 and 64, then 8, and 4 to see that 8 is inside"


def test_a_search_that_stays_at_its_edge_says_so(
    cell: EvaluateTuned, evaluated: list[Evaluate], tmp_path: Path
) -> None:
    found = rows(cell.replace(max_extensions=1), Runtime(tmp_path))
    assert set(found["tuned_value"]) == {8.0}
    assert found["at_edge"].all()


def test_where_the_value_does_not_matter_it_stays(
    cell: EvaluateTuned, evaluated: list[Evaluate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EvaluateTuned, "_score", lambda self, power, runtime: 25.0)
    found = rows(cell, Runtime(tmp_path))
    assert set(found["tuned_value"]) == {2.0}
    assert set(found["num_trials"]) == {3}


def test_where_it_levels_off_nothing_is_sought_further_out(
    cell: EvaluateTuned, evaluated: list[Evaluate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EvaluateTuned, "_score", lambda self, power, runtime: 25 - 0.5 ** (power + 4))
    found = rows(cell.replace(tolerance=0.01), Runtime(tmp_path))
    assert set(found["tuned_value"]) == {8.0}, "1/64 below the limit; the next is only 1/128 better"
    assert set(found["num_trials"]) == {5}
    assert not found["at_edge"].any()


def test_trials_and_the_final_run_are_shared(cell: EvaluateTuned, evaluated: list[Evaluate], tmp_path: Path) -> None:
    runtime = Runtime(tmp_path)
    cell.plain(2).ensure(runtime)
    cell.trial(0).ensure(runtime)
    cell.ensure(runtime)
    assert len(evaluated) == 6, "five trials and one final run"
    evaluated.clear()
    cell.ensure(runtime)
    cell.replace(num_values=5).ensure(runtime)
    assert scales(evaluated) == [("val", 0.5)]


def test_a_killed_one_goes_on(
    cell: EvaluateTuned, evaluated: list[Evaluate], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(EvaluateTuned, "plain", _killed_at(EvaluateTuned.plain, 4))
        with pytest.raises(KeyboardInterrupt):
            cell.ensure(runtime)
    assert scales(evaluated) == [("val", scale) for scale in (1.0, 2.0, 4.0, 8.0)]
    cell.ensure(runtime)
    assert scales(evaluated)[4:] == [("val", 16.0), ("test", 8.0)]
    assert len(list(tmp_path.glob(f"stages/*/*/{PROVENANCE}"))) == 7
    assert not list(tmp_path.glob("stages/*/*.partial"))


def _killed_at(plain: Any, scale: float) -> Any:
    """`plain`, interrupted as soon as a power of two above `scale` times 2 is asked for."""

    def killed(self: EvaluateTuned, power: int = 0) -> Evaluate:
        if self.value(power) > 2 * scale:
            raise KeyboardInterrupt
        made: Evaluate = plain(self, power)
        return made

    return killed


def test_without_a_field_it_is_the_plain_evaluation(
    cell: EvaluateTuned, evaluated: list[Evaluate], tmp_path: Path
) -> None:
    plain = cell.replace({"tuned": None})
    found = rows(plain, Runtime(tmp_path))
    assert scales(evaluated) == [("test", 2.0)]
    assert found["tuned_value"].isna().all()
    assert (found["num_trials"] == 0).all()
    assert not found["at_edge"].any()


def test_its_cells_are_those_of_other_studies(cell: EvaluateTuned, images: Path) -> None:
    assert cell.plain() == tiny_cell(images).replace({"solver.guidance_scale": 2.0})
    assert cell.plain().identity == tiny_cell(images).identity
    assert (
        cell.trial(1).identity
        == tiny_cell(images, split="val", num_images=4).replace({"solver.guidance_scale": 4.0}).identity
    )
    assert set(EvaluateTuned.model_fields) - set(Evaluate.model_fields) == OWN


@pytest.mark.parametrize(
    "change", [{"ratio": 3.0}, {"num_values": 5}, {"num_val_images": 5}, {"tolerance": 0.1}, {"max_extensions": 2}]
)
def test_what_can_change_the_choice_is_identity(change: dict[str, Any], cell: EvaluateTuned) -> None:
    assert cell.replace(change).identity != cell.identity
    assert cell.replace(num_examples=1).identity == cell.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tuned": "solver.strength"}, r"no solver\.strength to tune"),
        ({"tuned": "solver.kind"}, "positive number, got 'ldps'"),
        ({"solver.kind": "decode_only"}, r"solver decode_only has no solver\.guidance_scale to tune"),
        ({"solver.guidance_scale": 0}, "positive number, got 0"),
        ({"split": "val"}, "reported on test"),
        ({"num_values": 4}, "must be odd, got 4"),
    ],
)
def test_what_cannot_be_tuned_is_refused(change: dict[str, Any], message: str, cell: EvaluateTuned) -> None:
    with pytest.raises(UserError, match=message):
        cell.replace(change)


def test_too_few_validation_images_are_refused(cell: EvaluateTuned) -> None:
    with pytest.raises(UserError, match="val images"):
        cell.replace(num_val_images=1000).check()
