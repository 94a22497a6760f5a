"""What is said in a terminal: a user's names are no markup, and do nothing to it."""

import pytest
from rich.table import Table

from workbench.core.progress import MAX_LINE, Bars, one_line, printable


def test_printable_leaves_text_and_line_breaks() -> None:
    assert printable("Größe 3 × 3\nσ²  [red]") == "Größe 3 × 3\nσ²  [red]"
    assert printable("a\x1b[31mb\x07\r\udcff\x9b") == r"a\x1b[31mb\x07\r\udcff\x9b"


def test_one_line_joins_and_cuts() -> None:
    assert one_line(" a\n\n  b\x1b[0m\r\nc d") == r"a b\x1b[0m c d"
    assert one_line("x" * 10_000) == "x" * 200 + "..."
    assert len(one_line("word " * 10_000)) == MAX_LINE


@pytest.mark.parametrize("name", ["[red]x", "[/]", "[/red]y", "[bold", ":warning:", "a[link=x]b"])
def test_names_are_no_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(title=f"title {name}", caption=f"caption {name}")
    table.add_column(f"column {name}")
    table.add_row(f"cell {name}")
    with Bars() as bars:
        bars.say(f"said {name}")
        with bars.task(f"task {name}") as update:
            update(1, 2, f"note {name}")
        bars.show(table)
    printed = capsys.readouterr().out
    for word in ("said", "task", "title", "caption", "column", "cell"):
        assert f"{word} {name}" in printed


def test_bars_in_a_terminal_take_any_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Bars() as bars, bars.task("task [/red]\x1b[31m") as update:
        update(1, 2, "note [/]")
        bars.bars.refresh()
    assert r"task [/red]\x1b[31m" in capsys.readouterr().out
