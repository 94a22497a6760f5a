"""An index of the reports of all studies, with their questions and answers."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from workbench.core.bounds import MAX_COUNT
from workbench.core.config import Config, UserError, parse_overrides
from workbench.core.families import refuse_unnamed
from workbench.core.files import write_whole
from workbench.reporting.labels import described_images
from workbench.reporting.page import paragraphs, write_html

if TYPE_CHECKING:
    from workbench.experiments.results import StudyResults

SUMMARY = "summary.json"


class Summary(Config):
    """The index entry of a report, stored with it as JSON."""

    name: str
    preset: str
    question: str
    command: str
    answer: tuple[str, ...]
    num_cells: int = Field(ge=0, le=MAX_COUNT)
    num_images: int = Field(ge=0, le=MAX_COUNT)
    images: str = ""


@dataclass(frozen=True)
class _Entry:
    summary: Summary
    link: str
    note: str


def write_summary(results: "StudyResults", answer: Sequence[str], folder: Path) -> None:
    """Write the index entry of `results` to `folder`, next to their report."""
    summary = Summary(
        name=results.name,
        preset=results.preset,
        question=paragraphs(results.question)[0],
        command=results.command,
        answer=tuple(answer),
        num_cells=int(results.frame["cell"].nunique()),
        num_images=results.num_images,
        images=described_images(results),
    )
    write_whole(folder / SUMMARY, summary.model_dump_json(indent=2))


def read_summary(folder: Path) -> Summary | None:
    """The summary next to a study's report; None if it is missing or cannot be read."""
    try:
        return Summary.model_validate_json((folder / "report" / SUMMARY).read_bytes())
    except (OSError, ValueError):
        return None


def recipe_of(folder: Path) -> tuple[str, dict[str, Any]]:
    """The preset and the overrides of the study whose results are in `folder`.

    Raises:
        UserError: if they were not recorded, or name an object in a module that is not allowed.
    """
    summary = read_summary(folder)
    if summary is not None:
        # python -m workbench study NAME --preset PRESET, then the overrides
        try:
            overrides = parse_overrides(shlex.split(summary.command)[7:])
        except (ValueError, RecursionError):
            raise UserError(f"the command in report/{SUMMARY} cannot be read: run `study` again") from None
        overrides.pop("allow", None)  # modules that a stored command allows are not allowed here
        refuse_unnamed(overrides, "its command")
        return summary.preset, overrides
    if "-" in folder.name:
        raise UserError("its overrides are unknown: run `study` again with them (cached results are reused)")
    return folder.name, {}


def write_index(studies: Path, folders: Sequence[Path], kept: Mapping[Path, str]) -> Path:
    """Write `studies`/index.html over the reports in `folders`; `kept` says why a report was not redrawn.

    Raises:
        UserError: if none of them has a report.
    """
    entries = []
    for folder in folders:
        summary, page = read_summary(folder), folder / "report" / "index.html"
        if summary is not None and page.is_file():
            note = f"This is an earlier report: {kept[folder]}" if folder in kept else ""
            entries.append(_Entry(summary, Path(os.path.relpath(page, studies)).as_posix(), note))
    if not entries:
        raise UserError(f"none of the results in {studies} has a report: run `python -m workbench study NAME` again")
    return write_html("index.html.jinja", studies / "index.html", entries=entries)
