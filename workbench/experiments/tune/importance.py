"""The share of each setting in the variance between trials."""

import math
from functools import partial
from typing import TYPE_CHECKING

from workbench.experiments.objective import Objective

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

FEWEST_TRIALS = 10
"""Minimum number of trials for an estimate of importance."""


def importance(study: "Study", objective: Objective) -> dict[str, dict[str, float]]:
    """objective -> field -> its share of the variance over the searched ranges, by fANOVA (Hutter et al., ICML 2014).

    Empty if there are too few trials. The shares of an objective add up to 1.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < FEWEST_TRIALS:
        return {}
    found = {}
    for place, column in enumerate(objective.columns):
        shares = get_param_importances(
            study, evaluator=FanovaImportanceEvaluator(seed=0), target=partial(_objective, place)
        )
        if all(map(math.isfinite, shares.values())):
            found[column] = {path: float(share) for path, share in shares.items()}
    return found


def _objective(place: int, trial: "FrozenTrial") -> float:
    return float(trial.values[place])
