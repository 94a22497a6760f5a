"""A table whose rows go to disk as they come, so that memory does not grow with them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROWS_A_GROUP = 512
"""Rows that are written together: the footer, which the writer keeps, has an entry for every column of a group."""


class RowStream:
    """Rows in the order in which they come, as a Parquet file that is complete when the context ends.

    All rows have the columns of the first.

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


def write_sorted(stream: Path, path: Path, by: str) -> None:
    """The rows of a finished stream, sorted by a column, as a Parquet file of a data frame."""
    import pandas as pd

    # columns of numbers, some hundred bytes a row: what grew with the images was their rows as Python objects
    frame = pd.read_parquet(stream).sort_values(by, ignore_index=True)
    frame.attrs = {}
    frame.to_parquet(path)
