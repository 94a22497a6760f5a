"""What a notebook or a script asks of the workbench: the results of a study, its stages, and a restorer.

>>> from workbench.notebook import load_restorer, open_study
>>> robustness = open_study("robustness")
>>> results = robustness.results("full")  # ships: nothing is computed
>>> results.frame.query("encoder == degradation").groupby("degradation")["psnr"].mean().idxmax()
'jpeg'
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.config import UserError
from workbench.core.encoder_choice import EncoderChoice
from workbench.core.places import runs_root
from workbench.core.progress import Bars
from workbench.experiments.results import StudyResults
from workbench.experiments.study import DEFAULT_PRESET, Study, load_study
from workbench.stages.runtime import Runtime, choose_device

if TYPE_CHECKING:
    import pandas as pd

    from workbench.degradations import Degradation
    from workbench.reporting import Section
    from workbench.restoration import Restorer


@dataclass(frozen=True)
class OpenStudy:
    """A study to read from. Nothing here computes: `python -m workbench study NAME` does.

    Attributes:
        name: its name.
        definition: its cells and its report.
        question: its docstring: what it asks, what was expected, what it costs.

    In all methods `runs` is the runs folder ($WORKBENCH_RUNS, else ./runs, else that of the clone), and `overrides`
    are those of the command line: `{"start.offset_db": 3}`.
    """

    name: str
    definition: Study
    question: str

    def results(
        self,
        preset: str = DEFAULT_PRESET,
        overrides: Mapping[str, Any] | None = None,
        *,
        runs: str | Path | None = None,
    ) -> StudyResults:
        """What the study found; `results.frame` is a DataFrame with one row per image and cell.

        Cells are taken from the runs folder, and those that are not there from the reference results that ship.

        Raises:
            UserError: if some are in neither; the message says which command computes them.
        """
        from workbench.experiments.run import cached_results

        return cached_results(self.name, preset, overrides or {}, _runtime(runs))[1]

    def stages(
        self,
        preset: str = DEFAULT_PRESET,
        overrides: Mapping[str, Any] | None = None,
        *,
        runs: str | Path | None = None,
    ) -> "pd.DataFrame":
        """What the study rests on, one row per stage: stage, label, identity, state, folder, seconds.

        `state` is "cached", "ships", "in the reference", "needed" or "not needed"; `seconds` are those that it took
        here or, where it is needed, an estimate.

        >>> from workbench.notebook import open_study
        >>> stages = open_study("severity").stages("smoke", runs="no_runs_yet")
        >>> stages.loc[stages["state"] == "ships", "stage"].tolist()
        ['train_autoencoder', 'train_prior']
        """
        from workbench.reporting.overview import stage_table

        return stage_table(self.name, preset, overrides or {}, _runtime(runs))

    def answer(self, results: StudyResults) -> "Section":
        """The study's answer, as its page gives it."""
        from workbench.reporting import answer_box

        read, answer = self.definition.read, self.definition.answer
        said = answer(read(results)) if answer is not None else []
        return answer_box(f"{results.name} ({results.preset})", said)

    @property
    def sections(self) -> list[str]:
        """The sections of the study's page, by the names of the functions that draw them."""
        return list(self._drawn())

    def section(self, name: str, results: StudyResults, **options: Any) -> "Section":
        """One section of the study's page; a notebook shows it where it is a cell's last line.

        Args:
            name: one of `sections`.
            options: of the function that draws it.

        Raises:
            UserError: for a section that the study does not have, or that these results have nothing for.
        """
        drawn = self._drawn()
        if name not in drawn:
            raise UserError(f"{self.name} has no section {name!r}; there are: {', '.join(drawn)}")
        section: Section | None = drawn[name](self.definition.read(results), **options)
        if section is None:
            raise UserError(f"these results of {self.name} ({results.preset}) hold nothing for section {name!r}")
        return section

    def _drawn(self) -> dict[str, Any]:
        return {draw.__name__: draw for draw in self.definition.report}


def open_study(name: str) -> OpenStudy:
    """The study of that name, to read from.

    Raises:
        UserError: if there is none; the message lists those there are.
    """
    definition, question = load_study(name)
    return OpenStudy(name, definition, question)


def load_restorer(
    operator: "str | Degradation" = "gaussian_blur",
    *,
    encoder: str = EncoderChoice.UNIVERSAL,
    preset: str = DEFAULT_PRESET,
    overrides: Mapping[str, Any] | None = None,
    runs: str | Path | None = None,
    device: str = "auto",
    batch_size: int = 64,
) -> "Restorer":
    """Flash-Diffusion for one operator: `restore_all(measurement)` gives the restored images, their starts and costs.

    What ships is loaded; what does not is made at the first call and kept in the runs folder: for encoder "matched",
    a severity encoder (minutes), and for start rules that doubt their encoder, as the default one does, what is usual
    for it (seconds).

    >>> import torch
    >>> from workbench.data import FashionMNIST
    >>> from workbench.degradations import GaussianBlur
    >>> from workbench.notebook import load_restorer
    >>> images = FashionMNIST().split("test").first(2)
    >>> restorer = load_restorer(GaussianBlur(), overrides={"start.variance": "encoder"})
    >>> x = images.batch([0, 1])
    >>> measurement = restorer.degradation.measure(x, torch.tensor([0.1, 0.9]), images.ids, seed=0)
    >>> restored = restorer.restore_all(measurement)
    >>> restored.x_hat.shape
    torch.Size([2, 1, 32, 32])
    >>> mild, severe = restored.start_timestep.tolist()
    >>> mild < severe
    True

    Args:
        operator: the degradation, or its kind with its other fields as they come. A GivenPhysics too, with encoder
            "universal" or "none".
        encoder: "universal" ships; "matched" is trained for the operator; "none": the measurement's residual alone.
        preset: of the robustness study, whose cell names all that is not overridden.
        overrides: of that cell: `{"solver.guidance_scale": 0.5, "start.kind": "full"}`.
        runs: the runs folder ($WORKBENCH_RUNS, else ./runs, else that of the clone).
        device: cpu, cuda, cuda:1 ...; auto: a GPU if there is one.
        batch_size: images worked on at once.

    Raises:
        UserError: for an unknown operator, encoder, field or device, and where what should ship does not.
    """
    from workbench.degradations import GivenPhysics
    from workbench.experiments.restore import restoring_cell
    from workbench.stages.measure.evaluate import Evaluate

    if encoder not in list(EncoderChoice):
        raise UserError(f"unknown encoder {encoder!r}; there are: {', '.join(EncoderChoice)}")
    choice = EncoderChoice(encoder)
    named = operator
    if isinstance(operator, GivenPhysics):  # it has no place in a cell, which has an identity
        if choice is EncoderChoice.MATCHED:
            raise UserError("no encoder can be trained for a physics object: take encoder universal or none")
        named = Evaluate().degradation
    cell = restoring_cell(named, choice, preset, overrides or {})
    cell.check_operators()
    cell.prior_stage().check()
    runtime = _runtime(runs, device, batch_size)
    runtime.require_writable()
    restorer = cell.restorer(runtime)
    return dataclasses.replace(restorer, degradation=operator) if isinstance(operator, GivenPhysics) else restorer


def _runtime(runs: str | Path | None, device: str = "cpu", batch_size: int = 64) -> Runtime:
    return Runtime(runs_root() if runs is None else Path(runs), choose_device(device), batch_size, progress=Bars())
