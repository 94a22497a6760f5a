"""What a severity-matched start saves for published models, counted on paper, and the sections that say so."""

import math
from dataclasses import dataclass
from pathlib import Path

from pandas import DataFrame

from workbench.experiments.results import StudyResults
from workbench.metrics import Estimate
from workbench.reporting import MainFigure, Section, Words, heat_map, html_table, readable

WORDS = Words(Path(__file__).with_name("templates"))
TENTH = 10
"""How many times fewer steps a matched start leaves in the paper's experiments (arXiv 2309.06642, section 4), assumed
for every model and solver here."""
STEPS = {"ldps_few": 100, "mmps": 100}
LONG = 1000
"""Steps from pure noise: as the solvers' papers have; 100 for those made for few steps."""
SOLVER, TITLE = "solver", "title"


@dataclass(frozen=True)
class PaperScale:
    """One row for each model and solver, in the order of the models' size.

    Columns: `title`, `solver`; `parameters` of the prior; FLOPs of a `step`, of the `severity` encoding, and of `all`
    steps from pure noise; `matched`: severity encoding and a tenth of the steps; `activation_bytes` of a step.
    """

    rows: DataFrame

    @property
    def models(self) -> list[str]:
        """The models' titles."""
        return list(dict.fromkeys(self.rows[TITLE]))

    @property
    def saved(self) -> DataFrame:
        """FLOPs from pure noise over those from a matched start: models x solvers."""
        ratio = self.rows.assign(saved=self.rows["all"] / self.rows["matched"])
        return ratio.pivot(index=TITLE, columns=SOLVER, values="saved").loc[self.models]


def read(results: StudyResults) -> PaperScale:
    """The counted costs."""
    frame = results.frame
    num_steps = frame[SOLVER].map(lambda solver: STEPS.get(str(solver).split()[0], LONG))
    rows = DataFrame(
        {
            TITLE: frame["title"],
            SOLVER: frame[SOLVER],
            "parameters": frame["prior_parameters"],
            "step": frame["step_flops"],
            "severity": frame["severity_flops"],
            "all": num_steps * frame["step_flops"] + frame["decoder_flops"],
            "matched": num_steps / TENTH * frame["step_flops"] + frame["decoder_flops"] + frame["severity_flops"],
            "activation_bytes": frame["step_activation_bytes"],
        }
    )
    return PaperScale(rows.reset_index(drop=True))


def answer(found: PaperScale) -> list[str]:
    """How much of a tenfold saving in steps is left, and what severity encoding costs."""
    rows = found.rows
    return WORDS.sentences(
        "paper_answer",
        least=found.saved.min().min(),
        most=found.saved.max().max(),
        steps=(rows["severity"] / rows["step"]).max(),
        memory=rows["activation_bytes"].max() / 2**30,
        largest=rows.sort_values("activation_bytes")[TITLE].iloc[-1],
    )


def main_figure(found: PaperScale) -> MainFigure:
    """How many times fewer FLOPs a matched start takes: models x solvers."""
    saved = found.saved
    figure = heat_map(
        [[Estimate(value, math.nan, math.nan, 0) for value in row] for row in saved.to_numpy()],
        found.models,
        [readable(str(solver)) for solver in saved.columns],
        title="FLOPs from pure noise over those from a matched start",
        column_title="solver",
        decimals=2,
    )
    caption = f"If a matched start leaves 1 of {TENTH} steps, as in the paper; severity encoding and decoding included."
    return MainFigure(figure, "Heat map of the saving: models x solvers", caption)


def costs_section(found: PaperScale) -> Section:
    """One row for each model and solver."""
    rows = found.rows
    shown = DataFrame(
        {
            "model": rows[TITLE],
            "solver": rows[SOLVER].map(lambda solver: readable(str(solver))),
            "prior, million weights": rows["parameters"] / 1e6,
            "a step, TFLOP": rows["step"] / 1e12,
            "severity encoding, steps": rows["severity"] / rows["step"],
            "from pure noise, TFLOP": rows["all"] / 1e12,
            "from a matched start, TFLOP": rows["matched"] / 1e12,
            "activations of a step, GiB": rows["activation_bytes"] / 2**30,
        }
    ).set_index(["model", "solver"])
    shown.index = shown.index.map(", ".join).rename("model, solver")
    decimals = {column: 2 if "encoding" in column else 1 for column in map(str, shown)}
    return WORDS.section("paper_costs", table=html_table(shown, decimals), tenth=TENTH, long=LONG)
