"""A study's page: one HTML file that needs nothing but itself."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from workbench.files import write_whole

if TYPE_CHECKING:
    from workbench.study import StudyResults


@dataclass(frozen=True)
class Section:
    """A part of a page. `html` is put in as it is: whoever makes it escapes what is not his own."""

    title: str
    html: str


def render(results: "StudyResults", sections: Sequence[Section], path: Path, answer: Sequence[str] = ()) -> Path:
    """Write the page of `results` to `path` and return it.

    The first paragraph of the study's docstring is the question, what follows it stands small below. The page holds, in
    this order: the question, the answer (`answer`, one sentence each), notes on what is absent, the
    sections (restored examples last), the provenance and the command that makes the results again.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("workbench.reporting", package_path="."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    question, *background = re.split(r"\n\s*\n", results.question.strip())
    text = environment.get_template("page.html.jinja").render(
        results=results,
        question=question,
        background=background,
        answer=answer,
        sections=[(section.title, Markup(section.html)) for section in sections],
        provenance=_listing(results.provenance),
        num_images=int(results.frame["image_id"].nunique()),
        num_cells=int(results.frame["cell"].nunique()),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text)
    return path


def _listing(tree: Mapping[str, Any]) -> Markup:
    """A nested mapping as definition lists, inner mappings folded away."""
    items = []
    for name, value in tree.items():
        label = str(name).replace("_", " ")
        if isinstance(value, Mapping):
            inner = _listing(value) if value else Markup("<p>none</p>")
            items.append(Markup("<details><summary>{}</summary>{}</details>").format(label, inner))
        else:
            items.append(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(label, _text(value)))
    return Markup('<dl class="provenance">{}</dl>').format(Markup().join(items))


def _text(value: Any) -> Markup:
    if isinstance(value, list | tuple):
        return escape(", ".join(map(str, value)) or "none")
    if isinstance(value, float):
        return escape(f"{value:.4g}")
    return escape("none" if value is None else str(value))
