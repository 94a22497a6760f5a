"""`doctor --verify`: are the shipped files, downloaded data and computed results intact?"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.core.config import UserError, members
from workbench.core.digests import DIGESTS, damaged, listed_below, remedy
from workbench.stages.cache import damage

if TYPE_CHECKING:
    from workbench.data import ImageSource

NUM_NAMED = 5
"""Maximum number of damaged files in the last line; each is also listed above it."""


def verify(runs: Path, say: Callable[[str], None]) -> None:
    """Check every file, with one line of output per folder, data set and kind of stage.

    Raises:
        UserError: if something is damaged, with the remedy.
    """
    files: list[Path] = []
    others: list[str] = []
    for folder in _shipped():
        wrong = damaged(folder)
        files += wrong
        say(f"{folder}: {_verdict(folder, wrong)}")
    for source in _published():
        problem = _problem_of(source)
        others += [] if problem is None else [problem]
        say(f"data {source.kind}: {problem or 'as published'}")
    if (problem := _problem_of_lpips()) is not None:
        others.append(problem)
        say(f"LPIPS: {problem}")
    for kind, stages in _stages(runs).items():
        broken = [(folder, problem) for folder in stages if (problem := damage(folder)) is not None]
        others += [f"{folder}: {problem} (--rerun recomputes it)" for folder, problem in broken]
        say(f"{kind}: {len(stages) - len(broken)} of {len(stages)} as they were computed")
    if files or others:
        mend = [f"{len(files)} files that ship are damaged: {remedy(files[:NUM_NAMED])}"] if files else []
        more = [f"{len(others) - NUM_NAMED} more, see above"] if len(others) > NUM_NAMED else []
        raise UserError("; ".join([*mend, *others[:NUM_NAMED], *more]))


def _shipped() -> Iterator[Path]:
    """The folders that ship, or replace those that do."""
    from workbench.data import chest_mr
    from workbench.experiments import settings
    from workbench.experiments.reference import reference_folders
    from workbench.weights import zoo

    yield from zoo.folders()
    yield from reference_folders()
    yield settings.PRESETS
    yield chest_mr.FILE.parent


def _verdict(folder: Path, wrong: Sequence[Path]) -> str:
    if wrong:
        return f"damaged: {', '.join(str(path.relative_to(folder)) for path in wrong)}"
    if not (folder / DIGESTS).is_file():
        return f"no {DIGESTS}, nothing to check"
    return f"{len(listed_below(folder))} files as they shipped"


def _published() -> "Iterator[ImageSource]":
    """The downloaded data sets."""
    from workbench.data import ImageSource, Source

    for member in members(Source):
        if not any(info.is_required() for info in member.model_fields.values()):
            source = member()
            assert isinstance(source, ImageSource)
            if source.is_present():
                yield source


def _problem_of(source: "ImageSource") -> str | None:
    try:
        return source.verify()
    except UserError as error:
        return str(error)


def _problem_of_lpips() -> str | None:
    from workbench.metrics import LPIPSConfig, load_lpips

    try:
        load_lpips(LPIPSConfig())
    except UserError as error:
        return str(error)
    return None


def _stages(runs: Path) -> dict[str, list[Path]]:
    """The finished stages below a runs folder, by kind."""
    found: dict[str, list[Path]] = {}
    for folder in sorted((runs / "stages").glob("*/*")):
        if not folder.suffix:
            found.setdefault(folder.parent.name, []).append(folder)
    return found
