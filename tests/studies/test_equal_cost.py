"""What adapting is worth, on rows with known gains."""

import numpy as np
import pandas as pd
import pytest

from studies._equal_cost import Comparison, section, sentence, worth_of
from workbench.metrics import statistics

GAINS = {"timestep": 0.4, "missing_noise": 0.1, "permuted": 0.7, "known_severity": -0.05}
NUM = 64


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "NUM_RESAMPLES", 200)


def comparison(flops: float = 1.0, without: str = "", name: str = "ldps on blur") -> Comparison:
    noise = np.random.default_rng(0)
    content = 20 + 3 * noise.standard_normal(NUM)

    def rows(psnr: float, cost: float) -> pd.DataFrame:
        small = 0.05 * noise.standard_normal(NUM)
        return pd.DataFrame({"psnr": content + psnr + small, "flops": np.full(NUM, cost)})

    controls = {control: rows(1 - gain, flops) for control, gain in GAINS.items() if control != without}
    return Comparison(name, rows(1.0, 1.0), controls)


def test_adapting_is_worth_the_gain_over_the_best_control_that_is_blind_to_the_image() -> None:
    found = comparison()
    assert found.best() == "known_severity"
    assert worth_of([found]).mean == pytest.approx(GAINS["known_severity"], abs=0.03)
    blind = comparison(without="known_severity")
    assert blind.best() is None
    assert blind.worth() is None, "a missing control might be the best"


def test_the_sentence_says_the_worth_of_adapting_and_of_the_amount_of_noise() -> None:
    said = sentence([comparison(), comparison(name="psld on blur")])
    assert "loses 0.0" in said
    assert "2 pairs" in said
    assert "and 0.4" in said, "over one timestep, the better of those that need no truth"
    assert "missing, from one timestep, is worth 0.29 [" in said
    assert "not equal" not in said
    assert sentence([comparison(without="timestep")]) == ""


def test_unequal_costs_are_said() -> None:
    assert "Costs are not equal: controls spend 1.40 to 1.40 times as much." in sentence([comparison(flops=1.4)])


def test_the_section_has_a_row_a_pair_and_its_costs() -> None:
    html = str(section([comparison(flops=1.03)], ["Adapting gains."]).html)
    assert "ldps on blur" in html
    assert "1.03 to 1.03" in html
    assert "adapting is worth" in html
