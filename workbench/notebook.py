"""The interface for notebooks and scripts: the results of a study, its stages, and a restorer.

>>> from workbench.notebook import load_restorer, open_study
>>> robustness = open_study("robustness")
>>> results = robustness.results("full")  # reference results: nothing is computed
>>> results.frame.query("encoder == degradation").groupby("degradation")["psnr"].mean().idxmax()
'jpeg'
"""

import dataclasses
import tempfile
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
    from workbench.severity.reconstructor import Reconstruct
    from workbench.stages.fit.fit_estimator import Fitted
    from workbench.stages.measure.evaluate import Evaluate


@dataclass(frozen=True)
class OpenStudy:
    """A study, to read from. It computes nothing; `python -m workbench study NAME` does.

    Attributes:
        name: its name.
        definition: its cells and its report.
        question: its docstring: the question, the expected answer and the cost.

    In all methods, `runs` is the runs folder ($WORKBENCH_RUNS, else ./runs, else that of the clone), and `overrides`
    are the overrides of the command line: `{"start.offset_db": 3}`.
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
        """The study's results; `results.frame` is a DataFrame with one row per image and cell.

        Cells are read from the runs folder, or from the reference results if they are not there.

        Raises:
            UserError: if a cell is in neither; the message names the command that computes it.
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
        """The stages behind the study, one row per stage: stage, label, identity, state, folder, seconds.

        `state` is "cached", "ships", "in the reference", "needed" or "not needed". `seconds` is the time that the stage
        took here or, if it is needed, an estimate.

        >>> from workbench.notebook import open_study
        >>> stages = open_study("severity").stages("smoke", runs="no_runs_yet")
        >>> stages.loc[stages["state"] == "ships", "stage"].tolist()
        ['train_autoencoder', 'train_prior']
        """
        from workbench.reporting.overview import stage_table

        return stage_table(self.name, preset, overrides or {}, _runtime(runs))

    def answer(self, results: StudyResults) -> "Section":
        """The study's answer, as in its report."""
        from workbench.reporting import answer_box
        from workbench.reporting.words import only_seen

        read, answer = self.definition.read, self.definition.answer
        said = answer(read(results)) if answer is not None else []
        return answer_box(f"{results.name} ({results.preset})", only_seen(said) if results.too_small else said)

    @property
    def sections(self) -> list[str]:
        """The sections of the study's report, by the names of the functions that draw them."""
        return list(self._drawn())

    def section(self, name: str, results: StudyResults, **options: Any) -> "Section":
        """One section of the study's report; a notebook shows it if it is the last line of a cell.

        Args:
            name: one of `sections`.
            options: arguments of the function that draws it.

        Raises:
            UserError: if the study does not have this section, or these results have no data for it.
        """
        drawn = self._drawn()
        if name not in drawn:
            raise UserError(f"{self.name} has no section {name!r}; available: {', '.join(drawn)}")
        section: Section | None = drawn[name](self.definition.read(results), **options)
        if section is None:
            raise UserError(f"these results of {self.name} ({results.preset}) have no data for section {name!r}")
        return section

    def _drawn(self) -> dict[str, Any]:
        return {draw.__name__: draw for draw in self.definition.report}


def open_study(name: str) -> OpenStudy:
    """Open the study of that name.

    Raises:
        UserError: if there is none; the message lists the studies.
    """
    definition, question = load_study(name)
    return OpenStudy(name, definition, question)


def load_restorer(
    operator: "str | Degradation" = "gaussian_blur",
    *,
    encoder: "str | Reconstruct" = EncoderChoice.AUTO,
    model: str | Path | None = None,
    preset: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    runs: str | Path | None = None,
    device: str = "auto",
    batch_size: int = 64,
) -> "Restorer":
    """Flash-Diffusion for one operator: `restore_all(measurement)` returns the restored images, their starts and costs.

    Pretrained weights are loaded. Anything else is made at the first call and kept in the runs folder: a severity
    encoder for encoder "matched" (minutes) or "quick" (about a minute), and statistics of the encoder for start rules
    that check or correct it, as the default rules do (seconds). What is fitted to a physics or a reconstructor
    object is not kept, because objects have no name.

    >>> import torch
    >>> from workbench.data import FashionMNIST
    >>> from workbench.degradations import GaussianBlur
    >>> from workbench.notebook import load_restorer
    >>> images = FashionMNIST().split("test").first(2)
    >>> restorer = load_restorer(GaussianBlur(), overrides={"data.kind": "fashion_mnist"})
    >>> x = images.batch([0, 1])
    >>> measurement = restorer.degradation.measure(x, torch.tensor([0.1, 0.9]), images.ids, seed=0)
    >>> restored = restorer.restore_all(measurement)
    >>> restored.x_hat.shape
    torch.Size([2, 1, 32, 32])
    >>> mild, severe = restored.start_timestep.tolist()
    >>> mild < severe
    True

    Args:
        operator: the degradation, or its kind (with default settings). A GivenPhysics cannot have encoder "matched".
        encoder: "universal" is pretrained, "matched" is trained for the operator, "quick" is fitted to it in about a
            minute, "none" uses only the measurement's residual, and "auto" is the pretrained one if it knows the
            operator, else "quick". Or a reconstructor R: a deepinv Reconstructor or any function of (y, physics) that
            returns images, whose latents E(R(y)) are then refined; their variance is fitted to it.
        model: a pretrained latent diffusion model to restore with: a folder in diffusers' format, or a Hub id.
        preset: a preset of the robustness study; its cell has all settings that are not overridden, except that MMPS
            restores in few steps unless a solver, a sampler or the kind of start is. By default, the networks are those
            for photographs; those for clothes if `overrides` has `"data.kind": "fashion_mnist"`.
        overrides: overrides of that cell: `{"solver.guidance_scale": 0.5, "start.kind": "full"}`.
        runs: the runs folder ($WORKBENCH_RUNS, else ./runs, else that of the clone).
        device: cpu, cuda, cuda:1 ...; auto: a GPU if there is one.
        batch_size: number of images restored at once.

    Raises:
        UserError: for an unknown operator, encoder, field or device, or if shipped weights are missing.
    """
    from workbench.degradations import GivenPhysics
    from workbench.experiments.restore.cell import load_restorer, restoring_cell
    from workbench.experiments.settings import with_model
    from workbench.stages.measure.evaluate import Evaluate

    if isinstance(encoder, str) and encoder not in list(EncoderChoice):
        raise UserError(f"unknown encoder {encoder!r}; available: {', '.join(EncoderChoice)}, or a reconstructor")
    choice = EncoderChoice(encoder) if isinstance(encoder, str) else EncoderChoice.QUICK
    named, given = operator, with_model(overrides or {}, None if model is None else str(model))
    if isinstance(operator, GivenPhysics):  # it cannot be part of a cell, because it has no identity
        if choice is EncoderChoice.MATCHED:
            raise UserError("cannot train an encoder for a physics object: use encoder 'quick', 'universal' or 'none'")
        choice = EncoderChoice.QUICK if choice is EncoderChoice.AUTO else choice
        named = Evaluate().degradation
        if given.get("start.variance") == "non_blind":
            raise UserError("start.variance=non_blind is fitted to an operator with a name: use fused or residual")
        if choice is EncoderChoice.UNIVERSAL and "start.kind" not in given:
            given = {"start.variance": "fused", **given}
    if not isinstance(encoder, str):  # nothing is known of the correlation of its error
        given = {"severity_encoder.num_images": 512, "start.channel": "forward", **given}
    cell = restoring_cell(named, choice, preset, given)
    cell.check_operators()
    cell.prior_stage().check()
    runtime = _runtime(runs, device, batch_size)
    runtime.require_writable()
    if isinstance(encoder, str) and not isinstance(operator, GivenPhysics):
        return load_restorer(cell, runtime)
    degradation = operator if isinstance(operator, GivenPhysics) else cell.degradation
    fitted = _fitted(cell, degradation, encoder, runtime)
    return dataclasses.replace(load_restorer(cell, runtime, fitted), degradation=degradation)


def _fitted(
    cell: "Evaluate", degradation: "Degradation", encoder: "str | Reconstruct", runtime: Runtime
) -> "Fitted | None":
    """An estimator fitted to an object, in memory; None if none is fitted."""
    from workbench.severity.reconstructor import ReconstructorEncoder
    from workbench.stages.fit.fit_estimator import fit

    if (stage := cell.estimator_stage()) is None:
        return None
    recipe, autoencoder = stage.severity_encoder, cell.autoencoder_stage().load(runtime)
    made = recipe.build(autoencoder) if isinstance(encoder, str) else ReconstructorEncoder(autoencoder, encoder)
    degradation.check(cell.data.image_shape, gradient=False)
    with tempfile.TemporaryDirectory() as folder:
        fitted = fit(recipe, made, autoencoder, stage.clean_images(runtime), degradation, Path(folder), runtime)
    runtime.progress.say(f"severity: {fitted.claim}")
    return fitted


def _runtime(runs: str | Path | None, device: str = "cpu", batch_size: int = 64) -> Runtime:
    return Runtime(runs_root() if runs is None else Path(runs), choose_device(device), batch_size, progress=Bars())
