"""The rows of a cell, one per image: their file, their columns, and streaming them to disk.

Rows are written while others are computed, so that memory does not grow with their number.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROWS = "per_image.parquet"
OPERATOR = "operator"
"""Column with the operator of a mixture that measured an image."""
DRAW = "draw"
"""Column with the number of the draw that was kept, from 0, if there were several."""
EXAMPLES = "examples.safetensors"
"""File of the stored images of some rows, for the report."""
ABSENT = "_absent.txt"
"""End of the name of the file with the reason why the results lack a metric, after the metric's kind."""
LPIPS_ABSENT = f"lpips{ABSENT}"
SET_METRICS = "set_metrics.json"
"""File of the figures of all images together, with their intervals and numbers of images, by name."""
FIRST_COLUMNS = (
    "image_id",
    "psnr",
    "ssim",
    "ssim_valid",
    "psnr_degraded",
    "psnr_decoded",
    "psnr_ceiling",
    "residual_ratio",
)
COSTS = ("nfe", "decoder_evals", "encoder_evals", "flops", "seconds", "start_seconds")
LAST_COLUMNS = ("severity", "lpips", "measurement_set")
"""Columns that come first and last in stored rows; others are in between, in the order in which they are found."""
ROWS_A_GROUP = 512
"""Number of rows written together: the footer, which the writer keeps, has an entry per column of each group."""


class RowStream:
    """Rows in order of arrival, as a Parquet file that is complete when the context ends.

    All rows have the columns of the first row.

    Args:
        path: the file to write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer: Any = None
        self._waiting: list[Mapping[str, Any]] = []

    def __enter__(self) -> "RowStream":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._waiting:
                self._write()
        finally:
            if self._writer is not None:
                self._writer.close()

    def extend(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows."""
        self._waiting.extend(rows)
        if len(self._waiting) >= ROWS_A_GROUP:
            self._write()

    def _write(self) -> None:
        import pyarrow
        from pyarrow import parquet

        table = pyarrow.Table.from_pylist(self._waiting)
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self.path, table.schema)
        self._writer.write_table(table)
        self._waiting = []


def write_sorted(streams: Sequence[Path], path: Path, by: str) -> None:
    """Write the rows of finished streams, sorted by a column, as a Parquet file of a data frame."""
    import pandas as pd

    # columns of numbers take some hundred bytes per row; only rows as Python objects would be too large
    frame = pd.concat(map(pd.read_parquet, streams)).sort_values(by, ignore_index=True)
    frame.attrs = {}
    frame.to_parquet(path)
