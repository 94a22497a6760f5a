"""The prediction types of a denoising network, and the two estimates that follow from a prediction.

The network's input is x = signal u + noise eps. Its prediction is linear in u and eps, and so is x: two equations for
two unknowns, solved here in the form with the fewest divisions.
"""

from typing import Literal

from torch import Tensor

Prediction = Literal["epsilon", "sample", "v_prediction", "flow_prediction", "edm"]
"""eps; u; v = signal eps - noise u, of inputs whose signal^2 + noise^2 = 1 (arXiv 2202.00512, appendix D); the velocity
eps - u (arXiv 2209.03003); EDM's F, which is -v (`EDMLevels`)."""


def target(prediction: Prediction, u: Tensor, eps: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """The output of a perfect network; signal and noise broadcast to u and eps."""
    match prediction:
        case "epsilon":
            return eps
        case "sample":
            return u
        case "v_prediction":
            return signal * eps - noise * u
        case "flow_prediction":
            return eps - u
        case "edm":
            return noise * u - signal * eps


def estimates(
    prediction: Prediction, answer: Tensor, x: Tensor, signal: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """The posterior means of (u, eps) that follow from the prediction for x."""
    match prediction:
        case "epsilon":
            return (x - noise * answer) / signal, answer
        case "sample":
            return answer, (x - signal * answer) / noise
        case "v_prediction":
            return signal * x - noise * answer, signal * answer + noise * x
        case "flow_prediction":
            whole = signal + noise  # 1 for rectified flow: u = x - sigma v, eps = x + (1 - sigma) v
            return (x - noise * answer) / whole, (x + signal * answer) / whole
        case "edm":
            return signal * x + noise * answer, noise * x - signal * answer
