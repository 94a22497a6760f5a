"""What lies in a user's folder, outside the clone: members of families, networks among them, and a study."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from small_study import EVALUATION, NETWORKS, flags, source_overrides, write_images
from warm_python import warm_run

from workbench.experiments import study as study_module

PROJECT = Path(study_module.__file__).parents[2]

MODULE = '''
"""Members of a user's own."""

from pathlib import Path

from pydantic import Field

from workbench.degradations import Degradation
from workbench.severity.start import Fixed
from workbench.severity.variance import Residual
from workbench.solvers import Guided
from workbench.solvers.base import norms

(Path(__file__).parent / "imported").touch()


class Gentle(Guided):
    """A fraction of the residual's gradient."""

    weight: float = Field(0.5, ge=0, le=1, description="how much of it")

    def energy(self, step, z, z0_hat):
        return self.weight * norms(step.residual(step.networks.decode(z0_hat)))


class Darker(Degradation):
    """Takes light away."""

    least: float = Field(0.5, gt=0, le=1, description="what is left at severity 1")

    @property
    def linear(self):
        return True

    def parameters(self, severity, ids, seed, image_shape):
        return {"gain": 1 - (1 - self.least) * severity}

    def A(self, x, params):
        return params["gain"].reshape(-1, 1, 1, 1) * x

    A_adjoint = A

    def describe(self, severity):
        return f"{1 - (1 - self.least) * severity:.2f} of the light"


class Later(Fixed):
    """Fixed, by another name."""


class Doubled(Residual):
    """Twice what the residual says."""


class NotOne:
    pass
'''

NETWORKS_MODULE = '''
"""A prior and severity encoders of a user's own."""

from pathlib import Path

import torch
from pydantic import Field
from torch import nn

from workbench.diffusion import DDPMLevels, Prior, PriorRecipe
from workbench.severity.encoder import SeverityNetwork
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.estimator import EstimatorRecipe
from workbench.severity.recipe import SeverityRecipe
from workbench.severity.untrained import NoEncoder, Untrained

(Path(__file__).parent / "imported").touch()


class TwoLayers(Prior):
    """Looks at the latent alone, whatever the time."""

    @property
    def latent_channels(self):
        return self.network[0].in_channels

    def answer(self, x, time):
        return self.network(x)


class Small(PriorRecipe):
    """Two convolutions on 100 timesteps."""

    width: int = Field(8, ge=1, le=64, description="channels between the two")

    def levels(self):
        return DDPMLevels(torch.linspace(0.999, 0.01, 100))

    def build(self, latent_shape):
        layers = [nn.Conv2d(latent_shape[0], self.width, 3, padding=1), nn.SiLU()]
        layers.append(nn.Conv2d(self.width, latent_shape[0], 3, padding=1))
        return TwoLayers(nn.Sequential(*layers), self.levels(), "v_prediction")


class Spread(SeverityNetwork):
    """The autoencoder's encoder, and a variance that grows with the spread of the view."""

    def __init__(self, autoencoder, power):
        super().__init__()
        self.trunk = autoencoder.encoder_copy()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, view):
        _, z_hat = self.trunk(view)
        return z_hat, self.power * view.flatten(1).std(1).log().reshape(-1, 1, 1, 1)


class Reads(SeverityRecipe):
    """Trained here."""

    power: float = Field(1.0, ge=0, le=4, description="of the spread, at first")

    def build(self, autoencoder):
        return Spread(autoencoder, self.power)


class Brighter(NoEncoder):
    """Claims nothing, and reads a brighter picture."""

    def build(self, autoencoder):
        class Estimator(Untrained):
            def estimate(self, view):
                return super().estimate((1.1 * view).clamp(0, 1))

        return Estimator(autoencoder)


class Known(EstimatorRecipe):
    """Comes trained."""

    def build(self, autoencoder):
        class Estimator:
            def estimate(self, view):
                z_hat = autoencoder.encode(view)
                return SeverityEstimate(z_hat, torch.full((len(view), 1, 1, 1), 0.3))

        return Estimator()
'''

STUDY = '''
"""Does a gentler solver restore darker pictures?

Run: python -m workbench study mine.py
"""

from mine_parts import Darker, Gentle
from optuna.distributions import FloatDistribution

from workbench.stages.measure.evaluate import Evaluate
from workbench.experiments.study import Preset, Study

study = Study(
    cell=Evaluate(solver=Gentle(), degradation=Darker()),
    axes={"solver.weight": [0.25, 0.5]},
    search={"solver.weight": FloatDistribution(0.1, 1.0)},
    presets={"smoke": Preset(), "desk": Preset()},
)
'''


@dataclass(frozen=True)
class Outside:
    """A user's folder."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "Outside":
        (folder / "mine_parts.py").write_text(MODULE)
        (folder / "mine_networks.py").write_text(NETWORKS_MODULE)
        (folder / "mine.py").write_text(STUDY)
        write_images(folder / "images.npy")
        return cls(folder)

    @property
    def network_flags(self) -> list[str]:
        """Overrides by which the user's own prior and severity encoder are trained."""
        encoder = {"kind": "mine_networks:Reads", "degradation.kind": "gaussian_blur", "num_train_images": 64}
        fields = {f"severity_encoder.{name}": value for name, value in (encoder | {"batch_size": 16}).items()}
        prior = {"prior.kind": "mine_networks:Small", "prior.num_train_images": 64, "prior.batch_size": 32}
        plain = [flag for flag in self.flags if not flag.startswith(("--prior.", "--severity_encoder."))]
        return [*plain, *flags({**fields, **prior, "start.variance": "fused"})]

    @property
    def flags(self) -> list[str]:
        """Overrides that make a cell small, without a severity encoder or anything that ships."""
        own = {"autoencoder.source": "train", "prior.source": "train", "autoencoder.num_train_images": 64}
        networks = {**NETWORKS, "prior.num_train_images": 64}
        evaluation = {name: value for name, value in EVALUATION.items() if not name.startswith("severity_encoder.")}
        start = {"severity_encoder.kind": "none", "start.variance": "residual", "sampler.num_steps": 5, "num_images": 4}
        return flags({**source_overrides(self.folder / "images.npy"), **networks, **evaluation, **start, **own})

    def says(self, *words: object, code: int = 0, **environment: str) -> str:
        """What `python -m workbench` says in the user's folder."""
        environment = {**os.environ, "PYTHONPATH": str(PROJECT), "WANDB_MODE": "disabled", **environment}
        done = warm_run(["-m", "workbench", *map(str, words)], self.folder, environment)
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-3000:]
        if code:
            assert done.stderr.count("\n") == 1, done.stderr
        return done.stdout + done.stderr

    @property
    def was_imported(self) -> bool:
        """Whether the user's module has run; forgotten by asking."""
        trace = self.folder / "imported"
        was = trace.is_file()
        trace.unlink(missing_ok=True)
        return was

    def identities(self, stage: str = "evaluate", member: str = "solver") -> dict[str, str]:
        """The source digest of the `member` of each stage of that name that was computed, by identity."""
        found = {}
        for path in self.folder.glob(f"runs/stages/{stage}/*/provenance.json"):
            if source := json.loads(path.read_text())["canonical"][member].get("source"):
                found[path.parent.name] = source
        return found
