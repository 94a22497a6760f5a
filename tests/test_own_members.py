"""A user's own members that break what their family promises: refused in a line, with the remedy."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar

import numpy as np
import pytest
import torch

from workbench.core.config import UserError
from workbench.core.families import find, named_in
from workbench.core.measurement import Measurement
from workbench.data.base import ImageSource
from workbench.degradations import Degradation
from workbench.diffusion import Chain
from workbench.diffusion.scheduler_folder import read_scheduler
from workbench.experiments.study import Preset, Study
from workbench.metrics import PSNR, SSIM, Metric
from workbench.metrics.family import Comparison
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.start import EqualCost, SNRMatch, Start
from workbench.severity.start.base import check_start
from workbench.severity.variance import Evidence, Variance, VarianceSource
from workbench.solvers import Guided
from workbench.solvers.base import Step
from workbench.stages.measure.evaluate import Evaluate

SHAPE = (1, 16, 16)
T = TypeVar("T")


class Answers(Metric):
    columns: ClassVar[dict[str, None]] = {"mine": None}
    answer: ClassVar[Any] = None

    def __call__(self, found: Any) -> Any:
        return Answers.answer


class StealsPSNR(Answers):
    columns: ClassVar[dict[str, None]] = {"psnr": None}


class StealsNFE(Answers):
    columns: ClassVar[dict[str, None]] = {"nfe": None}


def lacking(kind: type[T], **fields: Any) -> T:
    """An object of a dataclass with these fields only, unchecked."""
    made = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"other": torch.zeros(3)}, "declare it in its `columns`"),
        ({"mine": torch.zeros(())}, "one number per image"),
        ({"mine": torch.zeros(3, 1)}, "one number per image"),
        ({"mine": [0.0] * 3}, "got list"),
    ],
)
def test_a_metric_keeps_to_its_columns(answer: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "answer", answer)
    with pytest.raises(UserError, match=told):
        Answers().checked(lacking(Comparison, x_hat=torch.zeros(3, *SHAPE)))


def test_metrics_fill_different_columns() -> None:
    with pytest.raises(UserError, match="both fill the column 'psnr'"):
        Evaluate().replace(metrics=(PSNR(), StealsPSNR()))
    with pytest.raises(UserError, match="every cell both fill the column 'nfe'"):
        Evaluate().replace(metrics=(StealsNFE(),))


def test_members_without_fields_may_be_given_by_name() -> None:
    assert Evaluate().replace(metrics="psnr, ssim").metrics == (PSNR(), SSIM())
    assert Evaluate().replace(metrics=["ssim"]).metrics == (SSIM(),)
    with pytest.raises(UserError, match=r"unknown kind 'foo' for metrics.0; available: psnr"):
        Evaluate().replace(metrics="foo")
    cell = Evaluate().replace({"start.variance": Constant().kind, "start.variance.level": 0.5})
    assert isinstance(cell.start, SNRMatch)
    assert cell.start.variance == Constant(level=0.5)
    assert named_in({"metrics": "psnr, mine:B"}) == {"metrics.1": "mine:B"}
    typed = {"start.variance": "mine:A", "metrics": ["psnr", "mine:B"], "solver.kind": "mine:C"}
    assert named_in(typed) == {"start.variance": "mine:A", "metrics.1": "mine:B", "solver.kind": "mine:C"}


def test_controls_of_equal_cost_find_the_true_error_of_the_matched_start() -> None:
    cell = Evaluate(metrics=(SSIM(),), start=EqualCost(control="permuted", of=SNRMatch()))
    (matched,) = cell.matched_stages()
    assert matched.metrics == (SSIM(), PSNR())


class Constant(VarianceSource):
    level: float = 0.1
    answer: ClassVar[Any] = None

    def __call__(self, evidence: Evidence) -> Any:
        return Constant.answer


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Variance(-torch.ones(2)), "must not be negative or NaN, but is for 2 of 2 images"),
        (Variance(torch.tensor([0.1, torch.nan])), "must not be negative or NaN, but is for 1 of 2 images"),
        (lacking(Variance, value=torch.ones(2, 1, 4, 4)), "one number per image"),
        (lacking(Variance, value=torch.tensor(0.1)), "one number per image"),
        (torch.ones(2), "got Tensor"),
    ],
)
def test_a_variance_is_one_number_per_image(answer: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Constant, "answer", answer)
    z, y = torch.zeros(2, 1, 4, 4), torch.zeros(2, *SHAPE)
    measurement = Measurement(y=y, ids=torch.arange(2), noise_std=torch.ones(2))
    evidence = Evidence(SeverityEstimate(z, torch.full((2, 1, 1, 1), 0.1)), measurement)
    chain = Chain(torch.arange(3.0).flip(0), torch.linspace(0.1, 1, 4))
    # TypeError: from --typecheck, which looks first
    with pytest.raises((UserError, TypeError), match=f"{told}|Actual value: f32"):
        SNRMatch(variance=Constant())(evidence, chain, z)


def test_a_start_is_in_the_chain() -> None:
    z, chain = torch.zeros(2, 1, 4, 4), Chain(torch.arange(3.0), torch.linspace(0.1, 1, 4))
    fell_back = torch.zeros(2, dtype=torch.bool)
    check_start(Start(z, torch.tensor([0, 3]), fell_back), z, chain, "mine:Rule")
    with pytest.raises(UserError, match=r"positions 0 ... 500, but the chain has 0 ... 3"):
        check_start(Start(z, torch.tensor([0, 500]), fell_back), z, chain, "mine:Rule")
    with pytest.raises(UserError, match=r"must return a workbench.severity.start.Start"):
        check_start(z, z, chain, "mine:Rule")


class Mean(Guided):
    def energy(self, step: Any, z: torch.Tensor, z0_hat: torch.Tensor) -> torch.Tensor:
        return (z**2).mean()


def test_an_energy_is_one_number_per_image() -> None:
    """A mean over the batch would make the step depend on the batch size."""
    networks = SimpleNamespace(predict=lambda z, time: (z, z))
    chain, position = Chain(torch.arange(3.0).flip(0), torch.linspace(0.1, 1, 4)), torch.zeros(3, dtype=torch.int64)
    step = lacking(Step, z=torch.ones(3, 1, 4, 4), position=position, chain=chain, networks=networks)
    # TypeError: from --typecheck, which looks first
    with pytest.raises((UserError, TypeError), match=r"one number per image|Actual value: f32"):
        Mean().step(step)


class Arrays(ImageSource):
    size: int = 16
    channels: int = 1
    arrays: ClassVar[Any] = None

    def is_present(self) -> bool:
        return True

    def fetch(self) -> Any:
        pytest.fail("images in memory are never fetched")

    def load_arrays(self) -> Any:
        if isinstance(Arrays.arrays, Exception):
            raise Arrays.arrays
        return Arrays.arrays


GOOD = np.random.default_rng(0).random((60, 16, 16, 1)).astype(np.float32)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        (GOOD, "must return two arrays"),
        ((GOOD.astype(np.float64), None), "must return uint8 or float32 arrays, got float64"),
        ((GOOD[:, :12], None), r"must return \(N, 16, 16, 1\) arrays"),
        ((255 * GOOD, None), r"must be on \[0, 1\]"),
        ((GOOD, np.full((1, 16, 16, 1), np.nan, np.float32)), r"must be on \[0, 1\]"),
        (OSError("no disk"), "cannot load its images: OSError: no disk"),
    ],
)
def test_a_source_keeps_to_its_shape_and_range(arrays: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arrays, "arrays", arrays)
    with pytest.raises(UserError, match=told):
        Arrays().split("test")


class Own(Degradation):
    mode: str = "right"

    def parameters(self, severity: Any, ids: Any, seed: int, image_shape: Any) -> Any:
        return {"gain": torch.ones(3) if self.mode == "params" else 1 - severity / 2}

    def A(self, x: Any, params: Any) -> Any:
        y = x * params["gain"].reshape(-1, 1, 1, 1)
        match self.mode:
            case "complex":
                return torch.fft.fft2(y)
            case "smaller":
                return y[..., :8]
            case "mixes":
                return y - y.mean(0)
            case "detached":
                return y.detach()
            case "raises":
                raise ValueError("boom")
        return y

    def describe(self, severity: float) -> str:
        return ""


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("params", "A fails on"),
        ("complex", "as_real"),
        ("smaller", "return such an image from `view`"),
        ("mixes", "differently in a batch than alone"),
        ("detached", "is not differentiable"),
        ("raises", "ValueError: boom"),
    ],
)
def test_a_degradation_is_tried_before_anything_is_trained(mode: str, told: str) -> None:
    Own().check(SHAPE, gradient=True)
    with pytest.raises(UserError, match=told):
        Own(mode=mode).check(SHAPE, gradient=True)


def test_a_class_is_named_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"is a file: name its module, as parts.mine:Gentle"):
        find("./parts/mine.py:Gentle")
    monkeypatch.setenv("WORKBENCH_ALLOW", "workbench.solvers")
    with pytest.raises(UserError, match="is built in: set kind=ldps"):
        Evaluate().replace({"solver.kind": "workbench.solvers:LDPS"})
    with pytest.raises(UserError, match="your own class is MODULE:CLASS"):
        Evaluate().replace({"solver.kind": "mine.Gentle"})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 0}, "shift must be a positive number, got 0"),
        (
            {
                "_class_name": "FlowMatchEulerDiscreteScheduler",
                "use_dynamic_shifting": True,
                "base_image_seq_len": 64,
                "max_image_seq_len": 64,
            },
            "must differ",
        ),
        ({"_class_name": "EDMEulerScheduler", "rho": 0}, "is invalid"),
    ],
)
def test_a_schedulers_settings_make_noise_levels(settings: Any, told: str, tmp_path: Path) -> None:
    (tmp_path / "scheduler_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=told):
        read_scheduler(tmp_path)


def test_a_study_has_cells() -> None:
    empty = Study(cell=Evaluate(), axes={"solver.guidance_scale": []}, presets={"smoke": Preset()})
    with pytest.raises(UserError, match=r"the study has no cells: give solver.guidance_scale at least one value"):
        empty.cells("smoke")
