"""Telling people what is going on: a bar a task with its remaining time, and what was cached."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol


class Update(Protocol):
    """Moves a bar: how much is done, of how much, and a few words."""

    def __call__(self, done: float, total: float, note: str = "") -> None: ...


class Progress(Protocol):
    """What stages and studies report to."""

    def task(self, description: str) -> AbstractContextManager[Update]:
        """A bar for a piece of work, as a context that gives its Update."""
        ...

    def say(self, line: str) -> None:
        """One line, above the bars."""
        ...

    def show(self, table: Any) -> None:
        """A rich table, above the bars."""
        ...


class Silent:
    """Says nothing."""

    @contextmanager
    def task(self, description: str) -> Iterator[Update]:
        yield lambda done, total, note="": None

    def say(self, line: str) -> None:
        """Nothing."""

    def show(self, table: Any) -> None:
        """Nothing."""


class Bars:
    """Bars by rich in a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self.console = Console()
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> "Bars":
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    @contextmanager
    def task(self, description: str) -> Iterator[Update]:
        bar = self.bars.add_task(description, total=None, note="")
        if not self.console.is_terminal:
            self.console.print(f"... {description}", highlight=False, markup=False)
        try:
            yield lambda done, total, note="": self.bars.update(bar, completed=int(done), total=int(total), note=note)
        finally:
            self.bars.remove_task(bar)

    def say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def show(self, table: Any) -> None:
        self.console.print(table)
