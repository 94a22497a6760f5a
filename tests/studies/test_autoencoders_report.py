"""The report of the autoencoders study, on rows made up from known effects."""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from studies import _autoencoders_report as report
from studies._autoencoders_rows import COST, FULL, ITSELF, MATCHED, ORACLE, ceiling_of, read
from workbench.config import UserError
from workbench.metrics import calibration, statistics
from workbench.results import StudyResults

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


def made_up() -> StudyResults:
    rng = np.random.default_rng(0)
    images, frames, evidence = np.arange(NUM), [], {}
    base, one = rng.normal(0, 1, NUM), plain_calibration()
    for name in CEILING:
        s2 = np.linspace(0.1, 1, NUM)
        wrong = rng.permutation(NUM)
        var_hat = CORRECT[name] * s2 + (1 - CORRECT[name]) * s2[wrong]
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
            },
            COST: {**parts, "where": "an abacus"},
            "encoders": dict.fromkeys(DEGRADATIONS, reading),
        }
        for degradation in DEGRADATIONS:
            for start, above in ((MATCHED, 0.0), (ORACLE, LOST_TO_ORACLE), (FULL, LOST_TO_NOISE)):
                label = {"autoencoder": name, "degradation": degradation, "start": start}
                frames.append(rows(label, RESTORED[name] + base + above, CEILING[name], len(frames)))
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
    found = read(made_up())
    assert found.readability("readable").mean == pytest.approx(1)
    assert found.readability("sharp").mean < 0.6
    apart = found.more_readable("readable", "sharp")
    assert apart.mean == pytest.approx(found.readability("readable").mean - found.readability("sharp").mean)
    assert apart.low > 0
    same = found.more_readable("pca", "pca")
    assert (same.low, same.mean, same.high) == (0, 0, 0)


def test_a_higher_ceiling_is_set_against_every_lower_one() -> None:
    contests = read(made_up()).contests()
    gains = {(one.higher, one.lower): one.gain.mean for one in contests}
    assert len(contests) == len(DEGRADATIONS) * 3
    assert gains == pytest.approx({("sharp", "readable"): -3, ("sharp", "pca"): -1, ("readable", "pca"): 2})


def test_gains_of_starts_are_paired() -> None:
    for pair in read(made_up()).pairs:
        assert pair.gain(MATCHED, ORACLE).mean == pytest.approx(-LOST_TO_ORACLE)
        gain = pair.gain(MATCHED, FULL)
        assert gain.low == pytest.approx(-LOST_TO_NOISE) == pytest.approx(gain.high)


def test_an_image_that_comes_back_to_the_letter_has_no_ceiling() -> None:
    assert ceiling_of([30.0, np.inf]).mean == np.inf
    assert ceiling_of([30.0, 32.0]).mean == 31


def test_the_page_says_it() -> None:
    results = made_up()
    said = " ".join(report.answer(results))
    assert "Severity is most readable from readable and least from sharp" in said
    assert "readable 1.00" in said
    assert "of 6 comparisons" in said
    assert "measurably better in 2 and measurably worse in 4" in said
    assert "A higher ceiling does not help restoration by itself" in said
    assert "the predicted one loses (PSNR): sharp 0.25" in said
    assert "prior of its own" in said
    assert "the severity encoder on pca" in said
    for section in report.SECTIONS:
        html = section(results).html
        assert "n/a" not in html
    assert "an abacus" in report.cost_section(results).html
    assert report.picture(results).startswith(b"\x89PNG")


def test_results_without_evidence_still_tell_of_restorations() -> None:
    results = dataclasses.replace(made_up(), evidence={})
    for section in (report.cost_section, report.readable_section, report.itself_section):
        assert section(results) is None
    assert "the predicted one loses" in " ".join(report.answer(results))
    assert "restored, dB" in report.restoration_section(results).html


def test_infinite_ceilings_are_drawn_nowhere_and_rank_highest() -> None:
    results = made_up()
    results.evidence["sharp"][ITSELF]["psnr"][0] = np.inf
    assert ("sharp", "readable") in {(one.higher, one.lower) for one in read(results).contests()}
    assert report.picture(results)
    assert "sharp inf" in " ".join(report.answer(results))


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
        read(dataclasses.replace(results, frame=frame)).contests()
