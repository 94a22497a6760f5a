"""The report of snr_matching, on rows made up from known effects, and its cells."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from studies.data_consistency.study import study as data_consistency
from studies.snr_matching.results import AGAIN, FORWARD, HINDSIGHT, MATCH, OTHER_NOISE, Sweep, read
from studies.snr_matching.sections import answer
from studies.snr_matching.study import OFFSETS, study
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.stages.measure.evaluate import Evaluate

SLOPE = {-1: 0.05, +1: 0.02}
"""dB of PSNR that each dB off the match costs, later and earlier."""
OFFICIAL, OFFICIAL_LOSS = ("official", 1.2), 0.3


def rows(label: dict[str, str], psnr: np.ndarray, nfe: float, cell: int) -> pd.DataFrame:
    n = len(psnr)
    columns = {"image_id": np.arange(n), "psnr": psnr, "ssim": 0.9, "residual_ratio": 1.0, "nfe": nfe}
    label = {"degradation": "gaussian_blur", "sample": "0", "channel": "-", "offset_db": "-", **label}
    return pd.DataFrame({**columns, "severity": np.linspace(0, 1, n), **label, "cell": f"{cell:012x}"})


def made_up(num_images: int = 16, official_nfe: float = 32.0) -> StudyResults:
    base = 23 + np.random.default_rng(0).normal(0, 1, num_images)
    frames = []
    for channel in ("forward", "mmse"):
        for sample in ("0", "1") if channel == "forward" else ("0",):
            for offset in OFFSETS:
                label = {"rule": "snr_match", "channel": channel, "offset_db": str(offset), "sample": sample}
                psnr = base - SLOPE[1 if offset > 0 else -1] * abs(offset) - 0.01 * (channel == "mmse")
                frames.append(rows(label, psnr, 2.0 ** (5 + offset / 3), len(frames)))
    official = {"rule": "official", "c": "1.2", "timestep": "official"}
    frames.append(rows(official, base - OFFICIAL_LOSS, official_nfe, len(frames)))
    fixed = {"rule": "fixed", "c": "fixed", "timestep": "40"}
    frames.append(rows(fixed, base - 1, 1e4, len(frames)))
    frame = pd.concat(frames, ignore_index=True)
    return StudyResults("snr_matching", "desk", "How?", "run", {}, frame, {}, {}, [])


def test_the_tolerance_is_where_the_mean_has_fallen_by_a_tenth_of_a_db() -> None:
    sweep = read(made_up())["gaussian_blur"]
    assert sweep.tolerance(FORWARD, -1).mean == pytest.approx(0.1 / SLOPE[-1])
    assert sweep.tolerance(FORWARD, +1).mean == pytest.approx(0.1 / SLOPE[+1])
    assert np.isnan(sweep.tolerance("absent", +1).mean)


def test_regret_is_against_the_best_start_of_each_image() -> None:
    """The match is best everywhere, on either draw."""
    sweep = read(made_up())["gaussian_blur"]
    for oracle in (HINDSIGHT, OTHER_NOISE):
        assert sweep.regret(MATCH, oracle).abs().max() == pytest.approx(0)
        assert sweep.regret(OFFICIAL, oracle).to_numpy() == pytest.approx(OFFICIAL_LOSS)


def test_rules_are_compared_at_the_same_cost() -> None:
    """The official rule costs what the match costs; a cost outside the sweep has nothing to compare with."""
    sweep = read(made_up())["gaussian_blur"]
    gain = sweep.gain_at_equal_cost(OFFICIAL)
    assert gain is not None
    assert gain.to_numpy() == pytest.approx(OFFICIAL_LOSS)
    assert sweep.gain_at_equal_cost(("fixed", 40.0)) is None
    dearer = read(made_up(official_nfe=1.5 * 32))["gaussian_blur"].gain_at_equal_cost(OFFICIAL)
    assert dearer is not None
    assert dearer.to_numpy() == pytest.approx(OFFICIAL_LOSS - 1.5 * SLOPE[+1]), "half of the way to +3 dB"


def test_each_sentence_has_the_number_of_the_results() -> None:
    sweeps = read(made_up())
    reach, regret, official, channel = answer(sweeps)
    assert "by 2.0 dB [" in reach, "the smaller of 0.1 / 0.05 and 0.1 / 0.02"
    assert "loses 0.00 dB" in regret
    assert f"it is {OFFICIAL_LOSS:.2f} dB [" in official
    assert "above the authors' rule (official, c = 1.2)" in official
    assert "PSNR by \N{MINUS SIGN}0.01 dB [" in channel
    for section in study.report:
        assert "nan" not in section(sweeps).html.replace("dominant", "").replace('data-value="nan"', "").lower()


def test_the_best_start_is_that_of_each_image() -> None:
    psnr = pd.DataFrame(
        {
            (FORWARD, 0.0): [20.0, 25.0, 22.0],
            (FORWARD, 3.0): [21.0, 24.0, 22.0],
            (AGAIN, 0.0): [30.0, 20.0, 20.0],
            (AGAIN, 3.0): [29.0, 21.0, 23.0],
        }
    )
    best = Sweep(psnr, psnr, psnr[FORWARD, 0.0]).best
    assert best[HINDSIGHT].tolist() == [21, 25, 22]
    # the other draw prefers the other start everywhere but for the last image, and is not what is scored
    assert best[OTHER_NOISE].tolist() == [20, 24, 22]


def test_starts_of_different_images_are_refused() -> None:
    results = made_up()
    ids = results.frame["image_id"].where(results.frame["rule"] != "official", results.frame["image_id"] + 1)
    with pytest.raises(UserError, match="different images"):
        read(dataclasses.replace(results, frame=results.frame.assign(image_id=ids)))


def test_a_sweep_without_the_match_is_refused() -> None:
    results = made_up()
    results = dataclasses.replace(results, frame=results.frame.query("offset_db != '0.0'"))
    with pytest.raises(UserError, match=r"sweep start\.offset_db through 0"):
        read(results)


def test_cells_that_cannot_be_told_apart_are_refused() -> None:
    results = made_up()
    again = results.frame[results.frame["rule"] == "official"].assign(cell="f" * 12)
    results = dataclasses.replace(results, frame=pd.concat([results.frame, again]))
    with pytest.raises(UserError, match=r"two cells are called official, 1\.2"):
        read(results)


def test_the_match_is_a_cell_of_other_studies_too() -> None:
    mine = {cell.stage.identity for cell in study.cells("desk")}
    assert len(mine & {cell.stage.identity for cell in data_consistency.cells("desk")}) == 3, "one a family"


def test_another_sample_has_other_noise_and_the_same_measurements() -> None:
    cell = Evaluate()
    other = cell.replace(sample=1)
    assert cell.replace(sample=0).identity == cell.identity != other.identity
    assert cell.sampling_seed == cell.seed != other.sampling_seed
    assert cell.measurement_set() == other.measurement_set()
