"""The report of the autoencoders study, on rows made up from known effects."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from studies.autoencoders import sections
from studies.autoencoders.results import COST, FULL, ITSELF, LOSSLESS, MATCHED, ORACLE, ceiling_of, read
from studies.autoencoders.study import study
from workbench.core.config import UserError
from workbench.experiments.results import StudyResults
from workbench.metrics import calibration, spearman, statistics
from workbench.reporting import spoken

NUM = 32
CEILING = {"sharp": 32.0, "readable": 28.0, "pca": 24.0}
RESTORED = {"sharp": 20.0, "readable": 23.0, "pca": 21.0}
CORRECT = {"sharp": 0.2, "readable": 1.0, "pca": 0.6}
"""How much of the ranking of var_hat is that of the true error."""
LOST_TO_ORACLE, LOST_TO_NOISE = 0.25, -0.5
DEGRADATIONS = ("gaussian_blur", "random_inpainting")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 100)


def plain_calibration() -> dict[str, Any]:
    """Of Gaussian errors of the predicted variance."""
    import json

    e = torch.randn(NUM, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    z0 = torch.randn(NUM, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    rows = calibration.collect(z0 + e, z0, torch.ones(NUM))
    found: dict[str, Any] = json.loads(calibration.as_json({"all": calibration.summarise(rows, 4)}))["all"]
    return found


def made_up(restored: Mapping[str, float] = RESTORED, correct: Mapping[str, float] = CORRECT) -> StudyResults:
    rng = np.random.default_rng(0)
    images, frames, evidence = np.arange(NUM), [], {}
    base, one = rng.normal(0, 1, NUM), plain_calibration()
    for name in CEILING:
        s2 = np.linspace(0.1, 1, NUM)
        wrong = rng.permutation(NUM)
        var_hat = correct[name] * s2 + (1 - correct[name]) * s2[wrong]
        columns = {"image_id": images, "severity": s2, "var_hat": var_hat, "s2": s2, "var_factor": 2 * s2}
        columns |= {"start_timestep": images, "oracle_timestep": images}
        reading = {"calibration": one, **{key: values.tolist() for key, values in columns.items()}}
        parts = {part: {"seconds": 1e-3, "flops": 1e9} for part in ("severity encoding", "reverse step", "decoding")}
        evidence[name] = {
            ITSELF: {
                "psnr": [CEILING[name]] * NUM,
                "ssim": [0.9] * NUM,
                "latents": one,
                "latent_shape": [2, 4, 4],
                "parameters": 1000,
                "encoder_parameters": 500,
                "trained": "100 images",
            },
            "prior": [64, 128],
            COST: {**parts, "where": "an abacus"},
            "encoders": dict.fromkeys(DEGRADATIONS, reading),
        }
        for degradation in DEGRADATIONS:
            for start, above in ((MATCHED, 0.0), (ORACLE, LOST_TO_ORACLE), (FULL, LOST_TO_NOISE)):
                label = {"autoencoder": name, "degradation": degradation, "start": start}
                frames.append(rows(label, restored[name] + base + above, CEILING[name], len(frames)))
    axes = {
        "degradation": list(DEGRADATIONS),
        "autoencoder": list(CEILING),
        "start": [MATCHED, ORACLE, FULL],
    }
    frame = pd.concat(frames, ignore_index=True)
    return StudyResults("autoencoders", "desk", "Which?", "run", axes, frame, {}, {}, [], evidence)


def rows(label: dict[str, str], psnr: np.ndarray, ceiling: float, cell: int) -> pd.DataFrame:
    known = {"ssim": 0.8, "psnr_degraded": 15.0, "psnr_decoded": 19.0, "psnr_ceiling": ceiling, "nfe": 20.0}
    known |= {"flops": 1e9, "seconds": 0.1, "start_timestep": 100, "oracle_timestep": 120}
    tuned = {"tuned_value": 2.0, "at_edge": False, "cell": f"{cell:012x}"}
    return pd.DataFrame({"image_id": np.arange(len(psnr)), "psnr": psnr, **known, **label, **tuned})


def test_what_ranks_the_errors_is_readable() -> None:
    ranks = read(made_up()).ranks
    assert ranks["readable"]["s2"].mean == pytest.approx(1)
    assert ranks["sharp"]["s2"].mean < 0.6
    apart = ranks["readable"]["sharp"]
    assert apart.mean == pytest.approx(ranks["readable"]["s2"].mean - ranks["sharp"]["s2"].mean)
    assert apart.low > 0
    same = ranks["pca"]["pca"]
    assert (same.low, same.mean, same.high) == (0, 0, 0)


def test_readabilities_have_the_intervals_that_each_has_by_itself() -> None:
    found = read(made_up())
    reading = found.readings["sharp", "gaussian_blur"].columns  # the same on all degradations
    for truth in ("s2", "severity"):
        alone = spearman(reading["var_hat"], reading[truth])
        assert dataclasses.astuple(found.ranks["sharp"][truth]) == pytest.approx(dataclasses.astuple(alone))


def test_encoders_that_were_measured_on_other_images_are_not_compared() -> None:
    results = made_up()
    encoders = results.evidence["sharp"]["encoders"]
    encoders["gaussian_blur"] = encoders["gaussian_blur"] | {"image_id": list(range(1, NUM + 1))}
    with pytest.raises(UserError, match="measured on different images"):
        len(read(results).ranks)


def test_a_higher_ceiling_is_set_against_every_lower_one() -> None:
    contests = read(made_up()).contests
    gains = {key[:2]: gain.mean for key, gain in contests.items()}
    assert len(contests) == len(DEGRADATIONS) * 3
    assert gains == pytest.approx({("sharp", "readable"): -3, ("sharp", "pca"): -1, ("readable", "pca"): 2})


def test_gains_of_starts_are_paired() -> None:
    found = read(made_up())
    assert [loss.mean for loss in found.losses_to_truth.values()] == pytest.approx([LOST_TO_ORACLE] * 3)
    for name, degradation in found.matched:
        assert found.gain(name, degradation, ORACLE).mean == pytest.approx(-LOST_TO_ORACLE)
        gain = found.gain(name, degradation, FULL)
        assert gain.low == pytest.approx(-LOST_TO_NOISE) == pytest.approx(gain.high)


def test_no_image_counts_for_more_than_lossless() -> None:
    assert ceiling_of([30.0, 32.0]).mean == 31
    assert ceiling_of([30.0, np.inf]).mean == (30 + LOSSLESS) / 2
    assert ceiling_of([138.0, np.inf]).mean == ceiling_of([LOSSLESS]).mean == LOSSLESS


def test_rounding_to_8_bits_is_not_lossless() -> None:
    x = np.random.default_rng(0).uniform(size=100_000)
    rounded = -10 * np.log10(np.mean((np.round(255 * x) / 255 - x) ** 2))
    assert rounded == pytest.approx(58.9, abs=0.05)
    assert rounded < LOSSLESS


def test_the_page_says_it() -> None:
    found = read(made_up())
    readable, level, ceiling, truth, prior = sections.answer(found)
    assert readable.startswith("Severity is most readable from readable, ")
    assert spoken(found.ranks["readable"]["s2"], 2) in readable
    assert level.endswith(f"for {len(found.right)} of 3 autoencoders.")
    assert ceiling.startswith("A higher ceiling does not help restoration by itself: ")
    assert "0.25 dB [0.25, 0.25]" in truth
    assert "prior of its own" in prior
    assert "n/a" not in "".join(draw(found).html for draw in study.report)
    assert "an abacus" in sections.itself(found).html
    assert sections.main_figure(found).png().startswith(b"\x89PNG")
    assert sections.example(found) == "0" * 12


def test_results_without_evidence_still_tell_of_restorations() -> None:
    found = read(dataclasses.replace(made_up(), evidence={}))
    assert [draw.__name__ for draw in study.report if draw(found) is not None] == ["restoration"]
    assert "each image's true error" in sections.answer(found)[0]


@pytest.mark.parametrize("psnr", [138.0, np.inf])
def test_what_loses_nothing_is_drawn_nowhere_and_ranks_highest(psnr: float) -> None:
    results = made_up()
    results.evidence["pca"][ITSELF]["psnr"] = [psnr] * NUM
    found = read(results)
    assert {("pca", "sharp"), ("pca", "readable")} < {key[:2] for key in found.contests}
    assert found.ceilings["pca"].mean == LOSSLESS
    for axes in sections.main_figure(found).figure.axes[1:]:
        assert axes.get_xlim()[1] < 40


READABLE = {
    "Severity is most readable from readable": {"sharp": 0.2, "readable": 1.0, "pca": 0.6},
    "than from PCA cannot be told": {"sharp": 0.2, "readable": 1.0, "pca": 1.0},
    "than from readable and PCA cannot be told": {"sharp": 1.0, "readable": 1.0, "pca": 1.0},
    "From none is severity measurably readable": {"sharp": -1.0, "readable": -1.0, "pca": -1.0},
}


@pytest.mark.parametrize("expected", READABLE)
def test_of_readability_only_what_is_measured_is_said(expected: str) -> None:
    assert expected in sections.answer(read(made_up(correct=READABLE[expected])))[0]


CEILINGS = {
    "A higher ceiling helps restoration:": ({"sharp": 23.0, "readable": 22.0, "pca": 21.0}, 6, 0),
    "A higher ceiling helps restoration where it can be told:": ({"sharp": 23.0, "readable": 23.0, "pca": 21.0}, 4, 0),
    "A higher ceiling does not help restoration by itself:": ({"sharp": 20.0, "readable": 23.0, "pca": 21.0}, 2, 4),
    "A higher ceiling does not help restoration:": ({"sharp": 21.0, "readable": 21.0, "pca": 23.0}, 0, 4),
    "Whether a higher ceiling helps restoration cannot be told:": (dict.fromkeys(CEILING, 21.0), 0, 0),
}


@pytest.mark.parametrize("verdict", CEILINGS)
def test_what_is_said_of_ceilings_follows_from_the_comparisons(verdict: str) -> None:
    restored, better, worse = CEILINGS[verdict]
    said = " ".join(sections.answer(read(made_up(restored))))
    assert verdict in said
    assert f"better in {better} of 6 comparisons of two autoencoders and measurably worse in {worse}." in said


def test_lpips_is_in_the_table_where_all_rows_have_it() -> None:
    results = made_up()
    assert "LPIPS" not in sections.restoration(read(results)).html
    frame = results.frame.assign(lpips=0.1234)
    assert sections.restoration(read(dataclasses.replace(results, frame=frame))).html.count(">0.123<") == 6
    frame.loc[frame["autoencoder"] == "sharp", "lpips"] = np.nan
    assert "LPIPS" not in sections.restoration(read(dataclasses.replace(results, frame=frame))).html


def test_cells_of_one_name_are_refused() -> None:
    results = made_up()
    again = results.frame[results.frame["cell"] == results.frame["cell"].iloc[0]].assign(cell="f" * 12)
    results = dataclasses.replace(results, frame=pd.concat([results.frame, again]))
    with pytest.raises(UserError, match="two cells are called sharp, gaussian_blur, snr_match"):
        read(results)


def test_other_images_are_refused() -> None:
    results = made_up()
    frame = results.frame.copy()
    first = frame["autoencoder"] == "sharp"
    frame.loc[first, "image_id"] += 1
    with pytest.raises(UserError, match="different images"):
        len(read(dataclasses.replace(results, frame=frame)).contests)
