"""The streamed table is, byte for byte, that of all rows at once."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pyarrow import parquet

from workbench.stages import rows
from workbench.stages.rows import RowStream, write_sorted


def row(key: int) -> dict[str, Any]:
    variance = float("nan") if key % 3 == 0 else 1 / (1 + key % 7)
    return {"image_id": key, "psnr": key / 7, "variance": variance, "fell_back": key % 2 == 0, "set": "3fa9c1"}


@pytest.mark.parametrize("num_rows", [1, 3, 4, 5, 23])
@pytest.mark.parametrize("together", [1, 3, 9])
def test_what_is_written_is_the_sorted_frame(
    num_rows: int, together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "ROWS_A_GROUP", 4)
    given = [row((key * 7919) % 1009 - 500) for key in range(num_rows)]
    with RowStream(tmp_path / "stream") as stream:
        for first in range(0, num_rows, together):
            stream.extend(given[first : first + together])
    write_sorted([tmp_path / "stream"], tmp_path / "rows.parquet", by="image_id")
    frame = pd.DataFrame(given).sort_values("image_id", ignore_index=True)
    frame.to_parquet(tmp_path / "expected.parquet")
    assert (tmp_path / "rows.parquet").read_bytes() == (tmp_path / "expected.parquet").read_bytes()


def test_rows_leave_memory_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "ROWS_A_GROUP", 10)
    with RowStream(tmp_path / "stream") as stream:
        for key in range(95):
            stream.extend([row(key)])
            assert len(stream._waiting) < 10
    written = parquet.ParquetFile(tmp_path / "stream")
    assert written.metadata.num_rows == 95
    assert written.metadata.num_row_groups == 10
