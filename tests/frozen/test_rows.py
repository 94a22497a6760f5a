"""No refactoring moves a number: a fixed sample of cells writes what it wrote when it was frozen."""

import pytest
from frozen import rows


def test_every_cell_of_the_sample_is_frozen_with_all_that_it_writes() -> None:
    sample, kept = rows.read(rows.SAMPLE), rows.read(rows.ROWS)
    assert kept.keys() == sample.keys()
    assert all(found["outputs"] for found in kept.values())
    assert any(cell["quick"] for cell in sample.values())


@pytest.mark.slow
def test_the_sample_is_computed_as_it_was() -> None:
    kept = rows.read(rows.ROWS)
    compared = 0
    for name, today in rows.compute(rows.names()):
        other, near = rows.compare(kept[name], today)
        assert not other, f"{name}: {other}"
        print(name, near or "equal to the bit")
        compared += 1
    assert compared == len(kept)
