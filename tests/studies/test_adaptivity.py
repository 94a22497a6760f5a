"""The report of adaptivity, on rows made up from known curves of quality, and its cells."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_study import EVALUATION, NETWORKS, source_overrides
from study_process import run

from studies.adaptivity.results import (
    ADAPTIVE,
    ALLOCATED,
    ALONE,
    BY_LEVEL,
    BY_NON_BLIND,
    BY_OPERATOR,
    FULL_NOISE,
    HINDSIGHT,
    MATCHED,
    NON_BLIND,
    ONE,
    OTHER_NOISE,
    Adaptivity,
    read,
)
from studies.adaptivity.sections import answer, main_figure
from studies.adaptivity.study import study
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.severity.start import Allocated, MissingNoise
from workbench.stages.measure.evaluate import Evaluate

CANDIDATES = (0, 1, 2, 4, 8, 16)
NUM = 120
FULL_NOISE_LOSS = 0.4
SETTING = {"solver": "ldps_few", "degradation": "mixture", "severities": "two_point"}


def made_up(slope: float = 2.0, luck: float = 0.0, lpips: bool = True, non_blind: bool = False) -> StudyResults:
    """PSNR = 20 + needed * log(1 + n), where needed rises with log variance, plus luck of each draw.

    The corrected start, if there is one, gives the images what they need, for one evaluation more than it takes.
    """
    frames: list[pd.DataFrame] = []
    rng = np.random.default_rng(0)
    known = {split: np.exp(rng.uniform(-4, 0, NUM)) for split in ("test", "val")}

    def add(
        nfe: np.ndarray, split: str, sample: str, rule: str, evaluations: str, lost: float = 0.0, extra: float = 0.0
    ) -> None:
        needed = slope * (np.log(known[split]) + 4) / 4 + 0.2
        psnr = 20 + needed * np.log1p(nfe) - 0.2 * nfe - lost + rng.normal(0, 1, NUM) * luck
        columns = {"image_id": np.arange(NUM), "psnr": psnr, "nfe": nfe.astype(float), "flops": (nfe + extra) * 1e6}
        columns |= {
            "start_variance": known[split],
            "var_hat": known[split],
            "s2": known[split],
            "severity": np.linspace(0, 1, NUM),
        }
        columns |= {"residual_rms_decoded": known[split][::-1], "log_var_y": np.sin(np.arange(NUM))}
        columns |= {"lpips": 0.5 - psnr / 100} if lpips else {}
        label = {**SETTING, "split": split, "sample": sample, "rule": rule, "evaluations": evaluations}
        frames.append(pd.DataFrame({**columns, **label, "cell": f"{len(frames):012x}"}))

    for split, sample in (("test", "0"), ("val", "0"), ("test", "1")):
        for n in CANDIDATES:
            add(np.full(NUM, n), split, sample, "missing_noise", str(n))
    for split in ("test", "val"):
        # the match gives the images what they need least of
        wrong = np.where(known[split] > np.median(known[split]), 2, 4)
        add(wrong, split, "0", "snr_match", "encoder")
        if non_blind:
            add(6 - wrong, split, "0", "snr_match", "non_blind", extra=1.0)
        add(np.full(NUM, 3), split, "0", "equal_cost", "one timestep", lost=FULL_NOISE_LOSS)
        add(np.full(NUM, 3), split, "0", "equal_cost", "permuted variances")
        add(np.full(NUM, 3), split, "0", "equal_cost", "known severity")
    return StudyResults("adaptivity", "desk", "How?", "run", {}, pd.concat(frames, ignore_index=True), {}, {}, [])


@pytest.fixture(scope="module")
def found() -> Adaptivity:
    return read(made_up())


def test_the_allocated_rule_spends_where_it_gains(found: Adaptivity) -> None:
    (setting,) = found.settings
    spent = setting.test.nfe[setting.index(ALLOCATED, "psnr", setting.budget)]
    assert spent.mean() == pytest.approx(setting.budget, abs=0.4)
    assert setting.cost(ALLOCATED, "psnr") == spent.mean(), "without its cell nothing is known of the residual's cost"
    order = np.argsort(setting.test.rows["var_hat"].to_numpy())
    assert (np.diff(spent[order]) >= 0).all()
    assert setting.gain(ALLOCATED, "psnr").mean() > 0.1
    assert setting.gain(MATCHED, "psnr").mean() < -0.1, "it gives them in the wrong order"
    assert setting.chosen(ADAPTIVE, "psnr") in (ALLOCATED, ALONE)


def test_what_is_known_about_quality_bounds_what_is_gained() -> None:
    """With luck of each draw more in hindsight than on other noise; without luck no more than the rule."""
    (setting,) = read(made_up(luck=0.3)).settings
    for budget in (1.0, 2.0, 4.0, 8.0):
        hindsight = setting.test.quality("psnr")[np.arange(NUM), setting.index(HINDSIGHT, "psnr", budget)]
        index = setting.index(ALLOCATED, "psnr", budget)
        paid = float(setting.test.nfe[index].mean())
        best = setting.index(HINDSIGHT, "psnr", paid)
        allocated = setting.test.quality("psnr")[np.arange(NUM), index]
        # its price meets the budget from below, by at most the step of one image
        slack = 16 / NUM * 3
        assert setting.test.quality("psnr")[np.arange(NUM), best].mean() >= allocated.mean() - slack
        assert (
            hindsight.mean()
            > setting.test.quality("psnr")[np.arange(NUM), setting.index(OTHER_NOISE, "psnr", budget)].mean()
        )
    exact = read(made_up()).settings[0]
    assert exact.gain(HINDSIGHT, "psnr").mean() == pytest.approx(exact.gain(ALLOCATED, "psnr").mean(), abs=0.03)


def test_one_start_is_interpolated_between_its_neighbours(found: Adaptivity) -> None:
    grid = found.settings[0].test
    between = 0.75 * grid.quality("psnr")[:, 2] + 0.25 * grid.quality("psnr")[:, 3]
    assert grid.one(2.5, "psnr") == pytest.approx(between)
    for place in range(len(CANDIDATES)):
        assert grid.gain_of(np.full(NUM, place), "psnr") == pytest.approx(0)


def test_controls_are_compared_at_equal_cost(found: Adaptivity) -> None:
    (setting,) = found.settings
    assert setting.controls == (ONE, FULL_NOISE, "permuted", "known severity")
    assert setting.gain(ONE, "psnr").abs().max() == 0
    # 3 evaluations beside a mix of 2 and 4, which a concave curve puts a little lower
    assert setting.gain(FULL_NOISE, "psnr").mean() == pytest.approx(-FULL_NOISE_LOSS, abs=0.15)


def test_in_a_mixture_each_operator_may_have_a_number_of_its_own() -> None:
    """What an operator's images need on average is no gain of adapting to each of them."""
    results = made_up()
    (without,) = read(results).settings
    variance = results.frame["var_hat"]
    (setting,) = read(
        dataclasses.replace(results, frame=results.frame.assign(operator=(variance > variance.median()) * 1))
    ).settings
    assert set(setting.controls) - set(without.controls) == {BY_OPERATOR, BY_LEVEL}
    operator = setting.test.rows["operator"].to_numpy()
    spent = setting.index(BY_OPERATOR, "psnr", setting.budget)
    assert [len(set(spent[operator == number])) for number in (0, 1)] == [1, 1]
    assert setting.gain(ALONE, "psnr").mean() > setting.gain(BY_OPERATOR, "psnr").mean() > 0.05
    assert setting.chosen(setting.controls, "psnr") in (BY_OPERATOR, BY_LEVEL)
    assert setting.worth("psnr").mean() < without.worth("psnr").mean() - 0.05


def test_the_residual_is_paid_for() -> None:
    """A cell of the allocated start whose FLOPs exceed the grid's by a quarter of a step."""
    (plain,) = read(made_up()).settings
    cell = plain.test.frames[4]
    setting = dataclasses.replace(plain, allocated=cell.assign(flops=cell["flops"] + 0.25e6))
    assert setting.extra == pytest.approx(0.25)
    assert setting.cost(ALLOCATED, "psnr") <= setting.budget + 0.2
    index = setting.index(ALLOCATED, "psnr", setting.budget)
    assert setting.test.nfe[index].mean() < plain.test.nfe[plain.index(ALLOCATED, "psnr", setting.budget)].mean()
    assert setting.gain(ALLOCATED, "psnr").mean() < plain.gain(ALLOCATED, "psnr").mean()


def test_a_corrected_variance_is_a_rule_and_pays_for_the_residual() -> None:
    (plain,) = read(made_up()).settings
    (setting,) = read(made_up(non_blind=True)).settings
    assert plain.adaptive == ADAPTIVE
    assert setting.adaptive == (*ADAPTIVE, NON_BLIND, BY_NON_BLIND)
    assert BY_NON_BLIND in setting.predictors
    assert BY_NON_BLIND not in plain.predictors
    assert setting.correction == pytest.approx(1)
    assert setting.cost(NON_BLIND, "psnr") == pytest.approx(setting.others["test"][NON_BLIND]["nfe"].mean() + 1)
    free = setting.others["test"][NON_BLIND]["psnr"] - setting.test.one(3.0, "psnr")
    assert setting.gain(NON_BLIND, "psnr").mean() < free.mean(), "one evaluation more would be worth something"
    spent = setting.test.nfe[setting.index(BY_NON_BLIND, "psnr", setting.budget)]
    assert spent.mean() == pytest.approx(setting.budget - 1, abs=0.4)


def test_lpips_gains_are_positive_where_it_falls(found: Adaptivity) -> None:
    (setting,) = found.settings
    assert setting.metrics == ["psnr", "lpips"]
    assert setting.gain(ALLOCATED, "lpips").mean() == pytest.approx(
        setting.gain(ALLOCATED, "psnr").mean() / 100, rel=0.05
    )
    assert read(made_up(lpips=False)).settings[0].metrics == ["psnr"]


def test_nothing_to_gain_is_not_shown() -> None:
    """Where all images need the same, allocation is one start, and the answer says that nothing is shown."""
    same = read(made_up(slope=0.0, luck=0.2))
    assert abs(same.settings[0].worth("psnr").mean()) < 0.15
    gain, *_ = answer(read(made_up(slope=3.0)))
    assert gain.startswith("At equal mean cost, adapting the start to each image gains +")
    assert "(mean over 1 setting, 120 test images)" in gain


def test_the_page_is_whole(found: Adaptivity) -> None:
    sentences = answer(found)
    assert 3 <= len(sentences) <= 5
    assert "24 comparisons" in sentences[-1], "three rules, four controls, two metrics"
    assert "is worth +0.4" in " ".join(sentences) or "is worth +0.3" in " ".join(sentences)
    html = main_figure(found).html() + "".join(section(found).html for section in study.report)
    assert "nan" not in html.replace("dominant", "").replace('data-value="nan"', "").lower()


def test_results_without_the_grid_are_refused() -> None:
    results = made_up()
    part = results.frame[results.frame["rule"] != "missing_noise"]
    with pytest.raises(UserError, match=r"needs a grid of start\.nfe"):
        read(dataclasses.replace(results, frame=part))


@pytest.mark.parametrize("preset", [name for name in study.presets if name != "photos"])
def test_the_cells_of_the_grid_are_those_of_the_fit(preset: str) -> None:
    require_the_grid_of_the_fit(preset)


@pytest.mark.shared
@pytest.mark.usefixtures("photographs")
def test_the_cells_of_the_grid_are_those_of_the_fit_on_photographs() -> None:
    require_the_grid_of_the_fit("photos")


def require_the_grid_of_the_fit(preset: str) -> None:
    """Every cell that an allocation is fitted to is one of the study's."""
    cells = [cell.stage for cell in study.cells(preset)]
    identities = {cell.identity for cell in cells}
    allocated = [cell for cell in cells if isinstance(cell, Evaluate) and isinstance(cell.start, Allocated)]
    assert allocated
    for cell in allocated:
        stage = cell.allocation_stage()
        assert stage is not None
        assert {one.identity for one in stage.cells()} <= identities
    grid = [cell for cell in cells if isinstance(cell, Evaluate) and isinstance(cell.start, MissingNoise)]
    assert {(cell.split, cell.sample) for cell in grid} == {("test", 0), ("val", 0), ("test", 1)}


def test_the_smoke_study_runs_and_does_nothing_twice(images: Path, tmp_path: Path) -> None:
    few = {name: value for name, value in EVALUATION.items() if name not in ("sampler.num_steps", "num_images")}
    overrides = {**source_overrides(images), **NETWORKS, **few}
    said = run(tmp_path, overrides, "adaptivity")
    num_cells = len(study.cells("smoke"))
    assert f"{num_cells} cells, 0 cached" in said
    (path,) = tmp_path.glob("studies/adaptivity/*/results.parquet")
    frame = pd.read_parquet(path)
    allocated = frame[frame["rule"] == "allocated"]
    assert len(allocated) == 14
    assert set(allocated["nfe"]) <= {0, 1, 2, 4}
    (page,) = tmp_path.glob("studies/adaptivity/*/report/index.html")
    assert "Where does adapting gain?" in page.read_text()
    assert f"{num_cells} cells, {num_cells} cached" in run(tmp_path, overrides, "adaptivity")
