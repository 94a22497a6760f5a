"""`python -m workbench.docs [FOLDER]`: write the reference, by default to docs/ of the runs folder."""

import os
import sys
import warnings
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from workbench.docs.settings import Family, families
from workbench.stages.measure.evaluate import Evaluate
from workbench.stages.measure.measure_calibration import MeasureCalibration
from workbench.stages.measure.measure_cost import MeasureCost

PACKAGES = ("workbench", "studies")


def main() -> None:
    """Write settings.html, the API pages and index.html, which links to both."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(os.environ.get("WORKBENCH_RUNS", "runs")) / "docs")
    folder.mkdir(parents=True, exist_ok=True)
    write_api(folder)
    found = families(Evaluate, MeasureCalibration, MeasureCost)
    for name in ("settings.html", "index.html"):
        (folder / name).write_text(page(f"{name}.jinja", found), encoding="utf-8")
    print(folder / "index.html")


def page(template: str, found: list[Family]) -> str:
    """A page of this folder, in the style of the study reports."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(f"workbench.{name}", package_path=".") for name in ("docs", "reporting")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(families=found)


def write_api(folder: Path) -> None:
    """One page per module, generated from docstrings by pdoc; its warnings are errors."""
    import pdoc

    pdoc.render.configure(docformat="google", math=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pdoc.pdoc(*PACKAGES, output_directory=folder)


if __name__ == "__main__":
    main()
