"""The section on figures of sets, and its way through shipped results."""

import dataclasses

from synthetic_robustness import make_results

from workbench.reporting.sets import set_section


def test_there_is_no_section_without_figures() -> None:
    assert set_section(make_results()) is None


def test_a_row_a_cell_with_its_number_of_images() -> None:
    results = make_results()
    first, second, *_ = results.frame["cell"].unique()
    figures = {
        first: {
            "fid": {"mean": 12.34, "low": None, "high": None, "num_images": 3000},
            "kid": {"mean": 0.00123, "low": 0.001, "high": 0.0015, "num_images": 3000},
        },
        second: {"fid": {"mean": 23.4, "low": None, "high": None, "num_images": 3000}},
    }
    section = set_section(dataclasses.replace(results, sets=figures))
    assert section is not None
    for text in (
        "<th scope=col>FID",
        "KID x 1000",
        "12.3<",
        "1.23<small>1.00 to 1.50",
        "23.4<",
        "n = 3000 images",
        "n/a",
    ):
        assert text in section.html, text
