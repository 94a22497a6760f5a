"""The severity encoder's loss (arXiv 2309.06642, eq. 7), and a variance term that learns faster."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from workbench.autoencoders import Autoencoder
from workbench.core.bounds import Weight
from workbench.core.config import Config
from workbench.core.tensors import Images, Latents
from workbench.severity.estimate import error_variance


class SeverityLoss(Config):
    """|z_hat - z0|^2 / d + weight_variance * (variance term) + weight_image * |D(z_hat) - x|^2 / d_image.

    The variance term is one of
    - `squared_difference`: (s2 - var_hat)^2, as in the authors' code. Variances are small and their squares smaller, so
      it learns slowly.
    - `gaussian_nll`: s2 / var_hat + log var_hat with s2 detached: twice the negative log-likelihood of the error
      under N(0, var_hat), per element; its minimum over var_hat is at E[s2 | y].

    The authors' code sums its image term over the batch, for images on [-1, 1]: their weight w corresponds to
    weight_image = 4 * (images in their batch) * w here. Their batch is that of one device, because gradients are
    averaged over devices: 4 images and w = 1 in their training script, so weight_image = 16.
    """

    variance_term: Literal["squared_difference", "gaussian_nll"] = Field(
        "gaussian_nll", description="loss of var_hat: the authors' squared difference, or a likelihood"
    )
    weight_variance: Weight = Field(0.1, description="weight of the variance term")
    weight_image: Weight = Field(
        1.0,
        description="weight of the decoded error: 4 x batch x the authors' weight (they sum over a batch on [-1, 1])",
    )
    detach_error_variance: bool = Field(
        False, description="squared_difference only: stop the gradient of s2 (the authors do not)"
    )

    def __call__(
        self, z_hat: Latents, log_var: Tensor, z0: Latents, x: Images, autoencoder: Autoencoder
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss averaged over the batch, and its parts for the training curves."""
        latent = (z_hat - z0).square().mean()
        s2, log_var = error_variance(z_hat, z0), log_var.flatten()
        if self.variance_term == "gaussian_nll":
            s2 = s2.detach()
            variance = (s2 / log_var.exp() + log_var).mean()
        else:
            s2 = s2.detach() if self.detach_error_variance else s2
            variance = (s2 - log_var.exp()).square().mean()
        loss = latent + self.weight_variance * variance
        parts = {"latent": latent, "variance": variance}
        if self.weight_image:
            image = (autoencoder.decode(z_hat) - x).square().mean()
            loss, parts["image"] = loss + self.weight_image * image, image
        return loss, {name: value.detach() for name, value in parts.items()}
