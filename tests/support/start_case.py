"""What start rules choose from, joined for tests."""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from workbench.diffusion import Chain
from workbench.severity.estimate import SeverityEstimate
from workbench.severity.start import ChoosesStart, Start
from workbench.severity.variance import Evidence


@dataclass(frozen=True)
class Case:
    """Images of which a rule is told no more than it has declared to need."""

    evidence: Evidence
    chain: Chain
    noise: Tensor

    @property
    def estimate(self) -> SeverityEstimate:
        """z_hat and var_hat."""
        return self.evidence.estimate

    def start(self, rule: ChoosesStart) -> Start:
        """What the rule chooses."""
        return rule(self.evidence.only(rule.needs), self.chain, self.noise)

    def knowing(self, **fields: Any) -> "Case":
        """The same images with other evidence."""
        return replace(self, evidence=replace(self.evidence, **fields))
