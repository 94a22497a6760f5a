"""The text of a study's report: Jinja templates in its folder `templates`, filled in from typed results.

A section template, NAME.html.jinja, is HTML with placeholders for figures and tables, and sets the section's title:
`{% set title = "What does it lose?" %}`. A sentence template, NAME.txt.jinja, is plain text; blank lines separate
sentences. An undefined name is an error (StrictUndefined), so templates cannot diverge from the code.

Filters for an `Estimate`: `dB` ("2.31 dB [2.10, 2.52]"), `signed_dB` ("+0.31 dB [0.21, 0.41]"), `percent`,
`estimate(decimals, unit)`. For a number: `number(decimals)`, `count` ("67,584"), `p_value`. For names: `label`,
`listed`, `capital`.
"""

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from workbench.reporting.formats import listed, number, p_value, percent, signed, spoken
from workbench.reporting.labels import capital, readable
from workbench.reporting.page import Section, paragraphs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment

    from workbench.metrics import Estimate

MOST_SENTENCES = 5
"""Maximum number of sentences of an answer."""


class Words:
    """The templates in a folder: `WORDS = Words(Path(__file__).with_name("templates"))`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def section(self, name: str, *, folded: bool = False, **values: Any) -> Section:
        """A section of the report from NAME.html.jinja.

        Args:
            folded: whether it is closed until a reader opens it.
            values: values for the template: figures and tables as `Markup`, results as they are.
        """
        filled = self._environment.get_template(f"{name}.html.jinja").make_module(values)
        return Section(str(filled.title), Markup(str(filled)), folded)  # type: ignore[attr-defined]

    def sentences(self, name: str = "answer", **values: Any) -> list[str]:
        """The sentences of NAME.txt.jinja, one line each."""
        text = self._environment.get_template(f"{name}.txt.jinja").render(values)
        return [re.sub(r"\s+", " ", sentence) for sentence in paragraphs(text) if sentence]

    @functools.cached_property
    def _environment(self) -> "Environment":
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            loader=FileSystemLoader(self.folder),
            autoescape=lambda name: name is not None and name.endswith(".html.jinja"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= FILTERS
        return environment


def only_seen(sentences: "Sequence[str]") -> list[str]:
    """An answer for results that are too small to conclude from: "No: it loses 2 dB" becomes "It loses 2 dB"."""
    return [capital(re.sub(r"^[^:\d]+: (?=.*\d)", "", sentence)) for sentence in sentences]


def _decibels(value: "Estimate", decimals: int = 2) -> str:
    return spoken(value, decimals, " dB")


def _signed_decibels(value: "Estimate", decimals: int = 2) -> str:
    return signed(value, decimals, " dB")


def _count(value: float) -> str:
    return f"{value:,.0f}"


FILTERS = {
    "dB": _decibels,
    "signed_dB": _signed_decibels,
    "percent": percent,
    "estimate": spoken,
    "number": number,
    "count": _count,
    "p_value": p_value,
    "label": readable,
    "listed": listed,
    "capital": capital,
}
"""Filters for values in templates."""
