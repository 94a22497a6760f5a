"""A study's report: one self-contained HTML file."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from workbench.core.config import as_override
from workbench.core.files import write_whole
from workbench.reporting.figures import svg
from workbench.reporting.labels import described_images, readable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.experiments.results import StudyResults


@dataclass(frozen=True)
class Section:
    """A part of a page. `html` is inserted unescaped: its author must escape foreign text.

    A `folded` section is closed until a reader opens it or follows a link into it; it prints in full.
    """

    title: str
    html: str
    folded: bool = False

    @property
    def anchor(self) -> str:
        """The section's id on the page: its title in lower case, words joined by hyphens."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    def _repr_html_(self) -> str:
        """The section in a notebook, in the notebook's own colours."""
        style = "\n".join(Path(__file__).with_name(name).read_text() for name in ("notebook.css", "parts.css"))
        html = '<div class="workbench"><style>.workbench {{\n{}\n}}</style>{}{}</div>'
        heading = Markup("<h3>{}</h3>").format(self.title) if self.title else Markup()
        return str(Markup(html).format(Markup(style), heading, Markup(self.html)))


def paragraph(text: str) -> Markup:
    """Text as a paragraph of a section."""
    return Markup("<p>{}</p>").format(text)


def answer_box(title: str, sentences: Sequence[str]) -> Section:
    """An answer as a separate section, set off as at the top of a page."""
    return Section(title, Markup('<div class="answer">{}</div>').format(Markup().join(map(paragraph, sentences))))


def side_by_side(figures: "Sequence[Markup | Figure]") -> Markup:
    """Figures next to each other if the page is wide enough."""
    drawn = [figure if isinstance(figure, Markup) else svg(figure) for figure in figures]
    return Markup('<div class="figures">{}</div>').format(Markup().join(map(Markup("<div>{}</div>").format, drawn)))


def render(
    results: "StudyResults",
    sections: Sequence[Section],
    path: Path,
    answer: Sequence[str] = (),
    *,
    pictures: Markup = Markup(),  # noqa: B008 a string, which cannot change
    figure: Markup = Markup(),  # noqa: B008
) -> Path:
    """Write the page of `results` to `path` and return it.

    The page has, in this order: the question (first paragraph of the study's docstring), a strip of images, the main
    figure next to the answer (one sentence each), what was expected (the rest of the docstring, folded), notes on
    missing results, the contents, the sections, and how it was made: command, settings and provenance.
    """
    question, *background = paragraphs(results.question)
    provenance = dict(results.provenance)
    settings = list(_settings(provenance.pop("cell", {})))
    return write_html(
        "page.html.jinja",
        path,
        results=results,
        question=question,
        images=described_images(results),
        background=[_with_command(text) for text in background],
        answer=answer,
        pictures=pictures,
        figure=figure,
        too_small=results.too_small,
        sections=sections,
        axes=[(readable(name), [readable(label) for label in labels]) for name, labels in results.axes.items()],
        settings=settings,
        provenance=_listing(provenance),
        num_cells=int(results.frame["cell"].nunique()),
    )


def write_html(template: str, path: Path, **values: Any) -> Path:
    """Fill in a template of this folder and write it, completely or not at all."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("workbench.reporting", package_path="."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(**values)
    text = re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)  # no line begins with a percent sign
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return path


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a docstring."""
    return re.split(r"\n\s*\n", text.strip())


def _with_command(text: str) -> Markup:
    """A paragraph of a docstring; a command at its end is not broken over lines."""
    found = re.fullmatch(r"(.*)(python -m workbench [\w .=-]+)", text, re.DOTALL)
    return Markup("{}<code>{}</code>").format(*found.groups()) if found else escape(text)


def _settings(tree: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every value of a config as the override that would set it."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield as_override(f"{prefix}{name}", value)


def _listing(tree: Mapping[str, Any]) -> Markup:
    """A nested mapping as definition lists, with inner mappings folded."""
    items, folded = [], []
    for name, value in tree.items():
        label = readable(str(name))
        if isinstance(value, Mapping):
            inner = _listing(value) if value else Markup("<p>none</p>")
            folded.append(Markup("<details><summary>{}</summary>{}</details>").format(label, inner))
        else:
            items.append(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(label, _text(value)))
    # a definition list may only contain its items, so folded parts follow it
    listed = Markup('<dl class="provenance">{}</dl>').format(Markup().join(items)) if items else Markup()
    return listed + Markup().join(folded)


def _text(value: Any) -> Markup:
    if isinstance(value, list | tuple):
        return escape(", ".join(map(str, value)) or "none")
    if isinstance(value, bool):
        return escape("yes" if value else "no")
    if isinstance(value, float):
        return escape(f"{value:.4g}")
    return escape("none" if value is None else str(value))
