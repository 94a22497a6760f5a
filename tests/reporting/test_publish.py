"""What a study's readers and W&B are given."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_robustness import make_results

from workbench.experiments.study import load_study
from workbench.reporting import QUANTITIES, terminal_table, with_one_ssim
from workbench.reporting.publish import _comparable, _means, draw
from workbench.reporting.words import only_seen

OLD = pd.DataFrame({"cell": ["a", "a"], "ssim": [0.8, 0.9]})
NEW = pd.DataFrame({"cell": ["b", "b"], "ssim": [0.8, 0.9], "ssim_valid": [0.7, 0.8]})
NO_IMAGES = pd.DataFrame({"cell": ["c"], "seconds": [1.0]})


@pytest.mark.parametrize(
    ("frames", "kept"),
    [
        ([NEW], "ssim_valid"),
        ([OLD], "ssim"),
        ([NEW, OLD], "ssim"),
        ([NEW, NO_IMAGES], "ssim_valid"),  # rows without any SSIM do not count
        ([NEW, NO_IMAGES, OLD], "ssim"),
    ],
)
def test_rows_are_shown_by_the_one_ssim_that_they_share(frames: list[pd.DataFrame], kept: str) -> None:
    frame = with_one_ssim(pd.concat(frames, ignore_index=True))
    assert [name for name in frame if str(name).startswith("ssim")] == [kept]


def test_rows_without_an_ssim_are_left_alone() -> None:
    assert with_one_ssim(NO_IMAGES).equals(NO_IMAGES)


def test_an_ssim_says_how_it_takes_borders() -> None:
    assert QUANTITIES["ssim"].label == "SSIM (reflected borders)"
    assert QUANTITIES["ssim_valid"].label == "SSIM"


@pytest.mark.parametrize(("newer", "name"), [(False, "ssim (reflected borders)"), (True, "ssim_valid")])
def test_the_recorded_table_and_the_terminal_name_it_too(newer: bool, name: str) -> None:
    results = make_results(8)
    if newer:
        results.frame["ssim_valid"] = results.frame["ssim"] - 0.05
    shown = _comparable(results)
    table = _means(shown)
    assert [column for column in table.columns if column.startswith("ssim")] == [name]
    column = table.columns.index(name)
    assert np.mean([row[column] for row in table.rows]) == pytest.approx(
        results.frame["ssim_valid" if newer else "ssim"].mean()
    )
    titles = [str(column.header) for column in terminal_table(shown).columns]
    assert [title for title in titles if "SSIM" in title] == ["SSIM" if newer else "SSIM (reflected borders)"]


def test_a_smoke_run_says_what_was_seen_and_concludes_nothing(tmp_path: Path) -> None:
    study, _ = load_study("robustness")
    results = replace(make_results(8), preset="smoke")
    page, said = draw(study, results, tmp_path)
    assert "No answer, but" in page.read_text()
    assert said[0].startswith("On a degradation that it was not trained on, a severity encoder costs")
    assert not any(sentence.startswith(("No", "Yes", "It is over-confident")) for sentence in said)
    assert only_seen(["Where 2 of 3 fail: it costs 2 dB.", "It cannot be told: no figures."])[0].startswith("Where 2")
    _, full = draw(study, replace(results, preset="desk"), tmp_path)
    assert full[0].startswith("No: on a degradation")
