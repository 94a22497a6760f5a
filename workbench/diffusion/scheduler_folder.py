"""Reading a diffusers scheduler's folder: the noise levels and the prediction type of the network's training.

The scheduler's sampling is ignored, because solvers have their own grid and reverse step. Settings that would change
the meaning of the network's predictions, or of the chain, are rejected.
"""

import inspect
import json
import math
from pathlib import Path
from typing import Any

from workbench.core.config import UserError
from workbench.diffusion.noise_levels import DDPMLevels, DynamicShift, EDMLevels, FlowLevels, NoiseLevels, Shift
from workbench.diffusion.prediction import Prediction

CONFIG = "scheduler_config.json"
MAX_TIMESTEPS = 100_000

KNOWN = (
    "DDPMScheduler",
    "DDPMParallelScheduler",
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "SASolverScheduler",
)
"""Schedulers that sample from a network trained like DDPM's: the same betas, timesteps and predictions."""
FLOW = ("FlowMatchEulerDiscreteScheduler",)
EDM = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
PREDICTIONS = ("epsilon", "sample", "v_prediction")

TRAINED_WITH = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
)
"""The settings that are used."""

TRAINED_FLOW = (
    "num_train_timesteps",
    "shift",
    "use_dynamic_shifting",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "time_shift_type",
)
TRAINED_EDM = ("sigma_min", "sigma_max", "sigma_data", "rho", "prediction_type", "num_train_timesteps")
TAKEN = {*TRAINED_WITH, *TRAINED_FLOW, *TRAINED_EDM, "rescale_betas_zero_snr"}

TRUE = (True,)
REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "clip_sample": (TRUE, "clips every estimate of the clean latent, which the solvers here do not"),
    "thresholding": (TRUE, "clips every estimate of the clean latent, which the solvers here do not"),
    "use_flow_sigmas": (TRUE, "is for a network trained by flow matching"),
    "variance_type": (("learned", "learned_range"), "is for a network that also predicts variances"),
    "invert_sigmas": (TRUE, "counts noise levels from latents to noise"),
    "timestep_type": (("continuous",), "is for a network that takes noise levels instead of timesteps"),
}
"""Values that are not supported, and their meaning."""

UNUSED = ("clip_sample_range", "sample_max_value", "dynamic_thresholding_ratio")
"""Settings without effect unless rejected ones are set."""


def read_scheduler(folder: Path, *, learned_variance: bool = False) -> tuple[Any, tuple[str, ...]]:
    """A scheduler's folder as a DDPMScheduler, with messages about ignored settings.

    Args:
        folder: the folder.
        learned_variance: whether a network that also predicts variances is accepted.

    Raises:
        UserError: for a folder without a config, a class or a setting that the prior cannot represent.
    """
    import diffusers

    path = folder / CONFIG
    config = _read(path)
    name = config.get("_class_name")
    if name is None:
        raise UserError(f'{path} does not name the scheduler\'s class: add its _class_name, for example "{KNOWN[0]}"')
    if name not in (*KNOWN, *FLOW, *EDM):
        raise UserError(
            f"{path} is for a {str(name)[:80]}, but a prior must be trained like DDPM or EDM, or by rectified "
            f"flow: not supported; available: {', '.join((*KNOWN, *FLOW, *EDM))}"
        )
    defaults = _defaults(getattr(diffusers, name))
    settings = defaults | {key: value for key, value in config.items() if key in defaults}
    for field, (values, meaning) in REFUSED.items():
        value = settings.get(field)
        if field == "variance_type" and learned_variance:
            continue
        if bool(value) if values == TRUE else value in values:
            stated = "" if field in config else ", its default"
            raise UserError(
                f"{path}: {field} {json.dumps(value)}{stated}, {meaning}: not supported; change it if the "
                "network was trained without it"
            )
    _check(path, settings)
    try:
        scheduler = _built(name, settings)
        levels_of(scheduler)
    except NotImplementedError:
        raise UserError(
            f"{path}: {name}'s beta_schedule {settings['beta_schedule']!r} is unknown to DDPMScheduler"
        ) from None
    except (
        ValueError,
        TypeError,
        RuntimeError,
        ArithmeticError,
    ) as error:  # for betas of another type or out of bounds
        raise UserError(f"{path} is invalid: {str(error).splitlines()[0] if str(error) else error!r}") from error
    return scheduler, _notes(path, name, config, defaults)


def levels_of(scheduler: Any, std: float = 1.0) -> tuple[NoiseLevels, Prediction]:
    """The noise levels and prediction type of a diffusers scheduler's network.

    Args:
        std: standard deviation of the network's latents.

    Raises:
        ValueError: for an unknown prediction type, or invalid noise levels.
    """
    config, name = scheduler.config, type(scheduler).__name__
    if name in FLOW:
        return FlowLevels(_shift(config), config.num_train_timesteps, std), "flow_prediction"
    prediction = config.prediction_type
    if name in EDM:
        if prediction not in ("epsilon", "v_prediction"):
            raise ValueError(f"prediction_type must be epsilon or v_prediction, not {prediction!r}")
        levels = EDMLevels(config.sigma_min, config.sigma_max, config.sigma_data, config.rho, std)
        return levels, "edm" if prediction == "epsilon" else "v_prediction"
    if prediction not in PREDICTIONS:
        raise ValueError(f"prediction_type must be one of {PREDICTIONS}, not {prediction!r}")
    return DDPMLevels(scheduler.alphas_cumprod, std), prediction


def _shift(config: Any) -> Shift:
    if not config.use_dynamic_shifting:
        return Shift(config.shift)
    tokens = config.base_image_seq_len, config.max_image_seq_len
    return DynamicShift(1.0, config.base_shift, config.max_shift, *tokens, config.time_shift_type)


def _built(name: str, settings: dict[str, Any]) -> Any:
    """A scheduler with only the settings of the network's training: DDPM, flow or EDM."""
    import diffusers

    if name in KNOWN:
        zero = {"rescale_betas_zero_snr": bool(settings.get("rescale_betas_zero_snr"))}
        trained = {field: settings[field] for field in TRAINED_WITH}
        return diffusers.DDPMScheduler(**trained, **zero, clip_sample=False, thresholding=False)
    taken = TRAINED_FLOW if name in FLOW else TRAINED_EDM
    plain = diffusers.FlowMatchEulerDiscreteScheduler if name in FLOW else diffusers.EDMEulerScheduler
    return plain(**{field: settings[field] for field in taken})


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path.parent} has no {path.name}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} must be a JSON object, not a {type(config).__name__}")
    return config


def _defaults(scheduler_class: Any) -> dict[str, Any]:
    """A scheduler's settings with their defaults."""
    parameters = inspect.signature(scheduler_class.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _check(path: Path, settings: dict[str, Any]) -> None:
    """Reject settings on which diffusers would fail with its own messages, or exhaust the memory."""
    number = settings["num_train_timesteps"]
    if not isinstance(number, int) or isinstance(number, bool) or not 2 <= number <= MAX_TIMESTEPS:
        raise UserError(f"{path}: num_train_timesteps must be an integer from 2 to {MAX_TIMESTEPS}, got {number!r}")
    shift = settings.get("shift", 1.0)
    if isinstance(shift, bool) or not isinstance(shift, int | float) or not 0 < shift < math.inf:
        raise UserError(f"{path}: shift must be a positive number, got {shift!r}")
    if settings.get("use_dynamic_shifting") and settings["base_image_seq_len"] == settings["max_image_seq_len"]:
        raise UserError(f"{path}: base_image_seq_len and max_image_seq_len must differ")
    betas = settings.get("trained_betas")
    if betas is not None and not (isinstance(betas, list) and len(betas) == number):
        raise UserError(f"{path}: trained_betas must be null or one number for each of the {number} timesteps")


def _notes(path: Path, name: str, config: dict[str, Any], defaults: dict[str, Any]) -> tuple[str, ...]:
    """A message about the scheduler's sampling if it differs from a default DDPMScheduler, and one about odd fields."""
    notes = []
    left = [f for f in defaults if f in config and f not in (*TAKEN, *REFUSED, *UNUSED)]
    changed = [f"{f}={json.dumps(config[f])}" for f in left if config[f] != defaults[f]]
    large = str(config.get("variance_type")).startswith("fixed_large")
    changed += [f"variance_type={json.dumps(config['variance_type'])}"] if large else []
    if changed or not name.startswith("DDPM"):
        own = f" ({', '.join(changed)})" if changed else ""
        notes.append(
            f"{path}: noise levels and prediction are taken from {name}; how it samples{own} is not: steps and their "
            "spacing are those of sampler"
        )
    odd = [field for field in config if field not in defaults and not field.startswith("_")]
    if odd:
        notes.append(f"{path}: {name} has no {', '.join(odd)}: ignored")
    return tuple(notes)
