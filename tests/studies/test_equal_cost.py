"""What adapting is worth, on rows with known gains."""

import numpy as np
import pandas as pd
import pytest

from studies._equal_cost import ATTAINABLE, Comparison, section, worth_of
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
    assert worth_of([found]).mean == pytest.approx(GAINS["known_severity"], abs=0.03)
    blind = comparison(without="known_severity")
    assert blind.worth() is None, "a missing control might be the best"


def test_the_section_has_the_worth_of_each_group_and_a_row_a_pair() -> None:
    pairs = [comparison(flops=1.03), comparison(name="psld on blur")]
    html = str(section({"matched encoders": pairs}).html)
    for words in ("matched encoders", "ldps on blur", "psld on blur", "1.03", "known severity", "adapting is worth"):
        assert words in html
    assert worth_of(pairs, ATTAINABLE).mean == pytest.approx(GAINS["timestep"], abs=0.03)


def test_unequal_costs_are_said() -> None:
    assert comparison(flops=1.4).costs == pytest.approx([1.4] * len(GAINS))
    assert ">1.40<" in section({"pairs": [comparison(flops=1.4)]}).html
