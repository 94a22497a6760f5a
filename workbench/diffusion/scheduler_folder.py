"""A diffusers scheduler's folder, read for what the network was trained on: noise levels and what it predicts.

How a scheduler samples is not taken over, since solvers have a grid and a reverse step of their own. What would change
the meaning of the network's answers, or of the chain, is refused.
"""

import inspect
import json
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
"""Those that sample from a network trained as DDPM's: the same betas, timesteps and predictions."""
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
"""What is taken over."""

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
    "timestep_type": (("continuous",), "is for a network that takes noise levels in the place of timesteps"),
}
"""Values that are not supported, and what they do."""

UNUSED = ("clip_sample_range", "sample_max_value", "dynamic_thresholding_ratio")
"""Of no effect without what is refused."""


def read_scheduler(folder: Path) -> tuple[Any, tuple[str, ...]]:
    """The schedule and parameterisation of a scheduler's folder as a DDPMScheduler, and a line on what is left out.

    Raises:
        UserError: for a folder without a config, a class or a setting that the prior cannot represent.
    """
    import diffusers

    path = folder / CONFIG
    config = _read(path)
    name = config.get("_class_name")
    if name is None:
        raise UserError(
            f"{path} does not say of which class the scheduler is: write its _class_name there, for example "
            f'"{KNOWN[0]}"'
        )
    if name not in (*KNOWN, *FLOW, *EDM):
        raise UserError(
            f"{path} is for a {str(name)[:80]}, and a prior here is a network trained as DDPM's, EDM's or by rectified "
            f"flow: not supported; available: {', '.join((*KNOWN, *FLOW, *EDM))}"
        )
    defaults = _defaults(getattr(diffusers, name))
    settings = defaults | {key: value for key, value in config.items() if key in defaults}
    for field, (values, meaning) in REFUSED.items():
        value = settings.get(field)
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
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:  # for betas of another type, or out of bounds
        raise UserError(f"{path} is unsound: {str(error).splitlines()[0] if str(error) else error!r}") from error
    return scheduler, _notes(path, name, config, defaults)


def levels_of(scheduler: Any, std: float = 1.0) -> tuple[NoiseLevels, Prediction]:
    """The noise levels that a diffusers scheduler's network was trained on, and what it answers.

    Args:
        std: of the latents that the network knows.

    Raises:
        ValueError: for a prediction that there is not, or noise levels that are none.
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
    """A scheduler that says no more than what the network was trained on: DDPM's, flow's or EDM's."""
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
        raise UserError(f"{path.parent} holds no {path.name}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no settings, but a {type(config).__name__}")
    return config


def _defaults(scheduler_class: Any) -> dict[str, Any]:
    """A scheduler's settings and what they are where its config is silent."""
    parameters = inspect.signature(scheduler_class.__init__).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _check(path: Path, settings: dict[str, Any]) -> None:
    """Refuse what diffusers would fail on in words of its own, or by the size of it."""
    number = settings["num_train_timesteps"]
    if not isinstance(number, int) or isinstance(number, bool) or not 2 <= number <= MAX_TIMESTEPS:
        raise UserError(f"{path}: num_train_timesteps must be a whole number from 2 to {MAX_TIMESTEPS}, got {number!r}")
    betas = settings.get("trained_betas")
    if betas is not None and not (isinstance(betas, list) and len(betas) == number):
        raise UserError(f"{path}: trained_betas must be null or one number for each of the {number} timesteps")


def _notes(path: Path, name: str, config: dict[str, Any], defaults: dict[str, Any]) -> tuple[str, ...]:
    """A line on how the scheduler samples, where that is not as a DDPMScheduler as it comes, and one on odd fields."""
    notes = []
    left = [f for f in defaults if f in config and f not in (*TAKEN, *REFUSED, *UNUSED)]
    changed = [f"{f}={json.dumps(config[f])}" for f in left if config[f] != defaults[f]]
    large = str(config.get("variance_type")).startswith("fixed_large")
    changed += [f"variance_type={json.dumps(config['variance_type'])}"] if large else []
    if changed or not name.startswith("DDPM"):
        own = f" ({', '.join(changed)})" if changed else ""
        notes.append(
            f"{path}: {name}'s own sampling{own} is not taken over: the grid of timesteps and the reverse step are the "
            "workbench's own, sampler.num_steps and sampler.eta"
        )
    odd = [field for field in config if field not in defaults and not field.startswith("_")]
    if odd:
        notes.append(f"{path}: {name} has no {', '.join(odd)}: left out")
    return tuple(notes)
