"""Progress for the user: one bar per task with the remaining time, and messages."""

import itertools
import os
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

_ENDLESS = re.compile(r"\S{600,}")
WIDTH_OF_FILES = 200
MAX_LINE = 2000
"""Maximum number of characters of a message."""


def printable(text: str) -> str:
    """Text that is safe for a terminal: control characters and unencodable characters are escaped."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def one_line(message: str) -> str:
    """A message on one line, truncated if it is too long."""
    text = " ".join(line.strip() for line in message.splitlines() if line.strip())
    text = _ENDLESS.sub(lambda word: f"{word[0][:200]}...", text)
    return printable(text if len(text) <= MAX_LINE else f"{text[: MAX_LINE - 4]} ...")


class Update(Protocol):
    """Moves a bar: how much is done, the total, a short note, and what is under way, in the unit of both."""

    def __call__(self, done: float, total: float, note: str = "", under_way: float = 0.0) -> None: ...


class Progress(Protocol):
    """The interface through which stages and studies report progress."""

    def task(self, description: str) -> AbstractContextManager[Update]:
        """Open a bar for a piece of work; the context manager yields its Update."""
        ...

    def say(self, line: str) -> None:
        """Print one line above the bars."""
        ...

    def show(self, table: Any) -> None:
        """Print a rich table above the bars."""
        ...


class Silent:
    """Says nothing."""

    @contextmanager
    def task(self, description: str) -> Iterator[Update]:
        yield lambda done, total, note="", under_way=0.0: None

    def say(self, line: str) -> None:
        """Nothing."""

    def show(self, table: Any) -> None:
        """Nothing."""


class Bars:
    """Progress bars by rich in a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        # text in brackets or between colons comes from paths and names: it is not markup or emoji
        self.console = Console(markup=False, emoji=False)
        if not self.console.is_terminal:  # a file has no width: tables are not cut
            self.console.width = WIDTH_OF_FILES
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}", style="progress.download", markup=False),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
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
        bar = self.bars.add_task(printable(description), total=None, note="", count="")

        def update(done: float, total: float, note: str = "", under_way: float = 0.0) -> None:
            count = f"{int(done)}/{int(total)}"
            self.bars.update(bar, completed=done + under_way, total=int(total), note=note, count=count)

        if not self.console.is_terminal:
            self.say(f"... {description}")
        try:
            yield update
        finally:
            self.bars.remove_task(bar)

    def say(self, line: str) -> None:
        self.console.print(printable(line), highlight=False, soft_wrap=True)

    def show(self, table: Any) -> None:
        self.console.print(table)


class Relay:
    """Forwards the progress of a worker process to the process that shows it.

    Args:
        queue: a multiprocessing queue, read by `relayed`.
    """

    def __init__(self, queue: Any) -> None:
        self.queue, self.numbers = queue, itertools.count()

    @contextmanager
    def task(self, description: str) -> Iterator[Update]:
        key = (os.getpid(), next(self.numbers))
        self.queue.put(("begin", key, description))
        try:
            yield lambda done, total, note="", under_way=0.0: self.queue.put(
                ("update", key, done, total, note, under_way)
            )
        finally:
            self.queue.put(("end", key))

    def say(self, line: str) -> None:
        self.queue.put(("say", line))

    def show(self, table: Any) -> None:
        self.queue.put(("show", table))


@contextmanager
def relayed(queue: Any, progress: Progress) -> Iterator[Any]:
    """Show the messages of all Relays of this queue until the block ends; if it ends without an error, show all."""
    thread = threading.Thread(target=_show_all, args=(queue, progress), daemon=True)
    thread.start()
    try:
        yield queue
        queue.put(None)
        thread.join()
    finally:
        queue.cancel_join_thread()  # a killed process may have left it locked


def _show_all(queue: Any, progress: Progress) -> None:
    bars: dict[Any, tuple[ExitStack, Update]] = {}
    for kind, *message in iter(queue.get, None):
        match kind, message:
            case "begin", (key, description):
                stack = ExitStack()
                bars[key] = stack, stack.enter_context(progress.task(description))
            case "update", (key, done, total, note, under_way):
                bars[key][1](done, total, note, under_way)
            case "end", (key,):
                bars.pop(key)[0].close()
            case "say", (line,):
                progress.say(line)
            case "show", (table,):
                progress.show(table)
