"""A scheduler's folder is read for what the network was trained on, or refused by name."""

import inspect
import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from workbench.core.config import UserError
from workbench.diffusion import DDPMLevels, UNetRecipe, load_prior
from workbench.diffusion.latent_std import LatentStd
from workbench.diffusion.noise_levels import DynamicShift, EDMLevels, FlowLevels, Shift
from workbench.diffusion.scheduler_folder import EDM, KNOWN, read_scheduler
from workbench.weights.zoo import zoo_root

SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "given": {"trained_betas": torch.linspace(0.001, 0.05, 50).tolist()},
}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # diffusers' own, thousands

QUIET = {"clip_sample": False, "thresholding": False}


def saved(name: str, folder: Path, **settings: Any) -> Path:
    """A scheduler of diffusers, as its own class saves it."""
    getattr(diffusers, name)(**settings).save_pretrained(folder)
    return folder


def quiet(name: str) -> dict[str, Any]:
    """So that a class which clips by default does not."""
    taken = inspect.signature(getattr(diffusers, name).__init__).parameters
    return {field: value for field, value in QUIET.items() if field in taken}


def edit(folder: Path, **entries: Any) -> None:
    path = folder / "scheduler_config.json"
    config = json.loads(path.read_text()) | entries
    path.write_text(json.dumps({field: value for field, value in config.items() if value is not ...}))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", KNOWN)
def test_known_classes_have_the_alpha_bar_that_they_were_saved_with(name: str, schedule: str, tmp_path: Path) -> None:
    settings = {"num_train_timesteps": 50, "prediction_type": "v_prediction", **SCHEDULES[schedule], **quiet(name)}
    theirs = getattr(diffusers, name)(**settings)
    theirs.save_pretrained(tmp_path)
    ours, notes = read_scheduler(tmp_path)
    torch.testing.assert_close(ours.alphas_cumprod, theirs.alphas_cumprod, rtol=0, atol=0)
    assert ours.config.prediction_type == "v_prediction"
    assert not ours.config.clip_sample
    assert len(notes) == (not name.startswith("DDPM"))
    assert all(f"{name}; how it samples is not" in note and "\n" not in note for note in notes)


def test_a_class_says_what_its_config_leaves_open(tmp_path: Path) -> None:
    """Heun's betas are not those of DDPM where neither file states them."""
    saved("HeunDiscreteScheduler", tmp_path)
    edit(tmp_path, beta_start=..., beta_end=...)
    ours, _ = read_scheduler(tmp_path)
    torch.testing.assert_close(ours.alphas_cumprod, diffusers.HeunDiscreteScheduler().alphas_cumprod)


@pytest.mark.parametrize(
    "name",
    [
        "FlowMatchHeunDiscreteScheduler",
        "ScoreSdeVeScheduler",
        "CMStochasticIterativeScheduler",
        "LCMScheduler",
        "TCDScheduler",
        "IPNDMScheduler",
        "CogVideoXDDIMScheduler",
        "UnCLIPScheduler",
        "DDPMWuerstchenScheduler",
    ],
)
def test_other_classes_are_refused_by_name(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    with pytest.raises(UserError, match=f"is for a {name}, but a prior must be .* not supported") as refusal:
        read_scheduler(tmp_path)
    assert "\n" not in str(refusal.value)


MEANT = {
    "DDPMScheduler": [
        {"clip_sample": True},
        {"thresholding": True},
        {"variance_type": "learned_range"},
        {"variance_type": "learned"},
    ],
    "DDIMScheduler": [{"clip_sample": True}, {"thresholding": True}],
    "HeunDiscreteScheduler": [{"clip_sample": True}],
    "EulerDiscreteScheduler": [{"timestep_type": "continuous"}],
    "DPMSolverMultistepScheduler": [
        {"thresholding": True},
        {"use_flow_sigmas": True},
        {"variance_type": "learned_range"},
    ],
    "UniPCMultistepScheduler": [{"use_flow_sigmas": True}],
    "DEISMultistepScheduler": [{"use_flow_sigmas": True}],
    "FlowMatchEulerDiscreteScheduler": [{"invert_sigmas": True}],
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in MEANT.items() for field in fields])
def test_what_changes_the_chain_is_refused(name: str, field: dict[str, Any], tmp_path: Path) -> None:
    saved(name, tmp_path, **quiet(name) | field)
    ((key, value),) = field.items()
    with pytest.raises(UserError, match=f"{key} {json.dumps(value)}, .*: not supported"):
        read_scheduler(tmp_path)


def test_what_a_class_does_unless_told_counts(tmp_path: Path) -> None:
    saved("DDIMScheduler", tmp_path)
    edit(tmp_path, clip_sample=...)
    with pytest.raises(UserError, match="clip_sample true, its default, clips every estimate"):
        read_scheduler(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timestep_spacing", "trailing"),
        ("steps_offset", 1),
        ("variance_type", "fixed_large"),
    ],
)
def test_how_it_samples_is_said_not_to_be_taken_over(field: str, value: Any, tmp_path: Path) -> None:
    saved("DDPMScheduler", tmp_path, clip_sample=False, **{field: value})
    _, (note,) = read_scheduler(tmp_path)
    assert f"how it samples ({field}={json.dumps(value)}) is not: steps and their spacing" in note


def test_odd_fields_are_named(tmp_path: Path) -> None:
    saved("PNDMScheduler", tmp_path)
    edit(tmp_path, clip_sample=False, shift=3.0)  # the first stands in many a folder of Stable Diffusion
    _, notes = read_scheduler(tmp_path)
    assert notes[1].endswith("PNDMScheduler has no clip_sample, shift: ignored")


UNSOUND: dict[str, tuple[dict[str, Any], str]] = {
    "no class": ({"_class_name": ...}, "does not name the scheduler's class: add its _class_name"),
    "class of another make": ({"_class_name": ["DDPMScheduler"]}, "not supported; available: DDPMScheduler, "),
    "a name of ours": ({"_class_name": "os.system"}, "is for a os.system"),
    "no schedule of that name": ({"beta_schedule": "sine"}, "beta_schedule 'sine' is unknown to DDPMScheduler"),
    "words for numbers": ({"beta_start": "small"}, "is invalid"),
    "too many timesteps": ({"num_train_timesteps": 10**9}, "must be an integer from 2 to 100000, got 1000000000"),
    "no timesteps": ({"num_train_timesteps": -5}, "must be an integer from 2 to 100000, got -5"),
    "half a timestep": ({"num_train_timesteps": 10.5}, "must be an integer from 2 to 100000, got 10.5"),
    "too few betas": ({"trained_betas": [0.1]}, "one number for each of the 1000 timesteps"),
    "one beta": ({"trained_betas": 0.1}, "one number for each of the 1000 timesteps"),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_unsound_settings_are_one_line(case: str, tmp_path: Path) -> None:
    saved("DDPMScheduler", tmp_path, clip_sample=False)
    entries, message = UNSOUND[case]
    edit(tmp_path, **entries)
    with pytest.raises(UserError) as refusal:
        read_scheduler(tmp_path)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\ud800"])
def test_what_is_no_config_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "scheduler_config.json").write_bytes(text.encode("utf-16", "surrogatepass"))
    with pytest.raises(UserError, match="cannot be read"):
        read_scheduler(tmp_path)
    (tmp_path / "scheduler_config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError, match=r"cannot be read|must be a JSON object"):
        read_scheduler(tmp_path)


@pytest.mark.parametrize("folder", sorted(zoo_root().glob("*/scheduler")), ids=lambda folder: folder.parent.name)
def test_what_ships_is_read_as_ever(folder: Path) -> None:
    scheduler, notes = read_scheduler(folder)
    assert notes == ()
    expected = diffusers.DDPMScheduler.from_pretrained(folder)
    assert torch.equal(scheduler.alphas_cumprod, expected.alphas_cumprod)
    assert scheduler.config.prediction_type == expected.config.prediction_type


@pytest.fixture
def prior_folder(tmp_path: Path) -> Path:
    """An untrained prior for latents of 4 channels."""
    UNetRecipe(block_out_channels=(16,), num_timesteps=50).build((4, 8, 8)).save(tmp_path)
    return tmp_path


def test_a_prior_of_another_scheduler_loads_with_its_note(prior_folder: Path) -> None:
    settings = {"num_train_timesteps": 50, "prediction_type": "v_prediction"}
    saved("EulerDiscreteScheduler", prior_folder / "scheduler", use_karras_sigmas=True, **settings)
    prior = load_prior(prior_folder)
    (note,) = prior.notes
    assert "EulerDiscreteScheduler; how it samples (use_karras_sigmas=true) is not" in note
    expected = diffusers.EulerDiscreteScheduler(**settings).alphas_cumprod
    torch.testing.assert_close(prior.levels.alpha_bar, expected.double())


def test_a_prior_trained_by_flow_matching_loads_with_its_shift(prior_folder: Path) -> None:
    saved("FlowMatchEulerDiscreteScheduler", prior_folder / "scheduler", shift=3.0, use_karras_sigmas=True)
    prior = load_prior(prior_folder)
    assert isinstance(prior.levels, FlowLevels)
    assert (prior.levels.shift, prior.prediction) == (Shift(3.0), "flow_prediction")
    assert "how it samples (use_karras_sigmas=true) is not" in prior.notes[0]
    saved("FlowMatchEulerDiscreteScheduler", prior_folder / "scheduler", use_dynamic_shifting=True, max_shift=2.0)
    levels = load_prior(prior_folder).levels
    assert isinstance(levels, FlowLevels)
    assert levels.shift == DynamicShift(max_shift=2.0)


@pytest.mark.parametrize("name", EDM)
def test_a_prior_trained_as_edm_loads(name: str, prior_folder: Path) -> None:
    saved(name, prior_folder / "scheduler", sigma_data=0.7, sigma_max=40.0)
    prior = load_prior(prior_folder)
    assert isinstance(prior.levels, EDMLevels)
    assert (prior.levels.sigma_data, prior.levels.sigma_max, prior.prediction) == (0.7, 40.0, "edm")
    saved(name, prior_folder / "scheduler", prediction_type="v_prediction")
    assert load_prior(prior_folder).prediction == "v_prediction"


def test_flow_prediction_on_ddpms_betas_is_refused(prior_folder: Path) -> None:
    saved("DPMSolverMultistepScheduler", prior_folder / "scheduler", prediction_type="flow_prediction")
    with pytest.raises(UserError, match="'flow_prediction'"):
        load_prior(prior_folder)


def test_zero_terminal_snr_is_for_networks_that_can_answer_there(prior_folder: Path) -> None:
    settings = {"num_train_timesteps": 50, "rescale_betas_zero_snr": True, "clip_sample": False}
    saved("DDIMScheduler", prior_folder / "scheduler", prediction_type="v_prediction", **settings)
    levels = load_prior(prior_folder).levels
    assert isinstance(levels, DDPMLevels)
    assert levels.alpha_bar[-1] == 0
    saved("DDIMScheduler", prior_folder / "scheduler", prediction_type="epsilon", **settings)
    with pytest.raises(UserError, match=r"predicts the noise \(epsilon\) has no information") as refusal:
        load_prior(prior_folder)
    assert "\n" not in str(refusal.value)


def test_how_wide_latents_are_is_recorded_beside_the_model(prior_folder: Path) -> None:
    assert load_prior(prior_folder).levels.std == 1
    latents = torch.randn(500, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    measured = LatentStd.measured(latents * torch.tensor([1.0, 1.0, 1.0, 3.0]).reshape(1, 4, 1, 1))
    assert measured.std == pytest.approx(3**0.5, rel=0.03)
    assert measured.by_channel == pytest.approx((1, 1, 1, 3), rel=0.05)
    measured.save(prior_folder)
    prior = load_prior(prior_folder)
    assert prior.levels.std == measured.std
    assert any("latent channels have" in note for note in prior.notes)
    for wrong in ('{"std": 0.0, "by_channel": []}', "{", '{"std": 1.0}', "[]"):
        (prior_folder / "latent_std.json").write_text(wrong)
        with pytest.raises(UserError, match=r"latent_std\.json"):
            load_prior(prior_folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"out_channels": 8}, "the network returns 8 channels for 4, as if it predicted variances too: not supported"),
        ({"out_channels": 3}, "the network returns 3 channels for 4: not supported"),
        ({"time_embedding_type": "fourier"}, "takes noise levels instead of timesteps: not supported"),
        ({"num_class_embeds": 10}, "needs the class of an image: not supported"),
    ],
)
def test_networks_of_another_kind_are_refused(settings: dict[str, Any], message: str, prior_folder: Path) -> None:
    unet = {
        "in_channels": 4,
        "out_channels": 4,
        "sample_size": 8,
        "block_out_channels": (16,),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",),
        "norm_num_groups": 16,
    }
    for old in (prior_folder / "unet").iterdir():
        old.unlink()
    diffusers.UNet2DModel(**unet | settings).save_pretrained(prior_folder / "unet")
    with pytest.raises(UserError) as refusal:
        load_prior(prior_folder)
    assert message in str(refusal.value)
