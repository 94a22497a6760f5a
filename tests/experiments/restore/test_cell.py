"""What may be restored with."""

from pathlib import Path

import pytest

from workbench import data
from workbench.core.config import UserError
from workbench.core.encoder_choice import EncoderChoice
from workbench.data import FashionMNIST
from workbench.experiments.restore import restoring_cell
from workbench.experiments.restore.cell import with_noise
from workbench.severity.quick import Quick
from workbench.severity.start import SNRMatch
from workbench.solvers import LDPS, MMPS
from workbench.stages.runtime import Runtime


@pytest.mark.parametrize("encoder", [EncoderChoice.UNIVERSAL, EncoderChoice.MATCHED])
def test_a_control_of_studies_is_refused_before_compute(encoder: EncoderChoice) -> None:
    with pytest.raises(UserError, match="cannot be used to restore"):
        restoring_cell("gaussian_blur", encoder, "smoke", {"start.kind": "equal_cost"})


def test_few_steps_restore_unless_the_user_chooses() -> None:
    cell = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, "desk", {})
    assert (cell.solver, cell.sampler.num_steps) == (MMPS(share=4), 125)
    photographs = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, None, {})
    assert (photographs.solver, photographs.sampler.num_steps) == (MMPS(share=4), 60)
    full = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, "desk", {"start.kind": "full"})
    assert (full.solver, full.sampler.num_steps) == (LDPS(), 500), "few steps are for starts near the end"
    scaled = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, "desk", {"solver.guidance_scale": 0.5})
    assert (scaled.solver, scaled.sampler.num_steps) == (LDPS(guidance_scale=0.5), 500)
    sampled = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, "desk", {"sampler.num_steps": 50})
    assert (sampled.solver, sampled.sampler.num_steps) == (LDPS(), 50)


@pytest.mark.parametrize(
    ("operator", "given", "kind"),
    [
        ("gaussian_blur", {}, "universal"),
        ("haze", {}, "quick"),
        ("gaussian_blur", {"autoencoder.kind": "pca"}, "quick"),
        ("haze", {"severity_encoder.num_train_images": 64}, "matched"),
    ],
)
def test_a_pretrained_encoder_is_used_where_it_knows_the_operator(
    operator: str, given: dict[str, object], kind: str
) -> None:
    overrides = {"autoencoder.source": "auto", **given}
    cell = restoring_cell(operator, EncoderChoice.AUTO, "desk", overrides)
    assert cell == restoring_cell(operator, EncoderChoice(kind), "desk", overrides)


def test_an_estimator_of_least_squares_starts_in_its_own_channel_with_the_residual_as_a_check() -> None:
    cell = restoring_cell("haze", EncoderChoice.QUICK, "desk", {"severity_encoder.num_images": 300})
    assert cell.severity_encoder == Quick(num_images=300)
    assert isinstance(cell.start, SNRMatch)
    assert (cell.start.channel, cell.start.variance.kind) == ("mmse", "fused")
    stated = restoring_cell("haze", EncoderChoice.QUICK, "desk", {"start.channel": "forward"})
    assert isinstance(stated.start, SNRMatch)
    assert stated.start.channel == "forward"


def test_without_clean_images_they_are_drawn_from_the_prior_and_no_data_set_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(FashionMNIST, "is_present", lambda self: False)

    def read(self: FashionMNIST) -> None:
        pytest.fail("the data set is read")

    monkeypatch.setattr(FashionMNIST, "load_arrays", read)
    data.base._splits.cache_clear()
    cell = restoring_cell("haze", EncoderChoice.AUTO, "desk", {})
    stage = cell.estimator_stage()
    assert stage is not None
    assert cell.severity_encoder == Quick(images="prior", num_images=500)
    missing = [needed.name for needed in stage.missing(Runtime(tmp_path))]
    assert missing == ["sample_prior", "fit_estimator"]


def test_photographs_are_restored_with_the_variance_that_ships_for_the_operator() -> None:
    for operator in ("gaussian_blur", "jpeg"):
        cell = restoring_cell(operator, EncoderChoice.AUTO, None, {})
        assert isinstance(cell.start, SNRMatch)
        assert cell.start.variance.kind == "non_blind"
        fit = cell.shipped_non_blind()
        assert fit is not None
        (only,) = fit.operators
        assert only.operator["kind"] == operator
    noisier = with_noise(cell, 0.1)
    assert isinstance(noisier.start, SNRMatch)
    assert noisier.shipped_non_blind() is None
    assert noisier.start.variance.kind == "fused", "the regressions are for other noise"
    shifted = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, None, {"start.offset_db": 1.0})
    assert isinstance(shifted.start, SNRMatch)
    assert (shifted.start.variance.kind, shifted.start.offset_db) == ("non_blind", 1.0)
    bounded = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, None, {"start.risk": 0.1})
    assert isinstance(bounded.start, SNRMatch)
    assert bounded.start.variance.kind == "fused", "what is bounded is the encoder's own variance"
    chosen = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, None, {"start.variance": "fused"})
    assert isinstance(chosen.start, SNRMatch)
    assert chosen.start.variance.kind == "fused"
    clothes = restoring_cell("gaussian_blur", EncoderChoice.UNIVERSAL, "desk", {})
    assert isinstance(clothes.start, SNRMatch)
    assert clothes.start.variance.kind == "fused", "no regression ships for them"


@pytest.mark.parametrize(
    ("operator", "given", "kind", "pair"),
    [
        ("audio_noise", {}, "spoken_digits", "spoken_digits_64x128_pca"),
        ("mri", {"data.kind": "chest_mr"}, "chest_mr", "chest_mr_64_patch"),
        ("mri", {}, "tiny_imagenet", "tiny_imagenet_64_patch"),
        ("audio_noise", {"autoencoder.kind": "pca", "data.kind": "spoken_digits"}, "spoken_digits", None),
    ],
)
def test_another_domain_has_a_pair_of_its_own(
    operator: str, given: dict[str, str], kind: str, pair: str | None
) -> None:
    cell = restoring_cell(operator, EncoderChoice.NONE, None, given)
    sources = {Path(str(cell.autoencoder.source)).name, Path(str(cell.prior.source)).name}
    assert sources == ({"auto"} if pair is None else {pair})
    assert cell.data.kind == kind
