"""One LightningModule for all training: AdamW, warm-up and cosine schedule, a loss keyed by the step."""

from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from workbench.core import randomness, ranks

Loss = Callable[[dict[str, Any], torch.Generator], tuple[Tensor, dict[str, Tensor]]]


class TrainingModule(lightning.LightningModule):
    """Trains `network` on `loss(batch, generator)`.

    The generator is keyed by (seed, step), so a resumed run draws the same numbers as an uninterrupted one.

    Args:
        network: the network to train.
        loss: (batch, generator) -> (loss, parts for the training curves).
        num_steps: length of the learning-rate schedule.
        learning_rate: the peak learning rate, after a warm-up of 2 % of the steps.
        seed: keys all draws.
        ema_decay: decay of the exponential moving average of the weights; None: no average.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        num_steps: int,
        learning_rate: float,
        seed: int,
        ema_decay: float | None = None,
    ) -> None:
        super().__init__()
        self.network, self.loss_function = network, loss
        self.num_steps, self.learning_rate, self.seed = num_steps, learning_rate, seed
        self.ema = None
        if ema_decay is not None:
            self.ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(ema_decay)).requires_grad_(False)

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        loss, parts = self.loss_function(batch, randomness.generator(self.seed, "loss", batch["step"]))
        self.log_dict(
            {f"train/{name}": value for name, value in {"loss": loss, **parts}.items()},
            on_epoch=True,
            on_step=False,
            sync_dist=ranks.size() > 1,
        )
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        if self.ema is not None:
            self.ema.update_parameters(self.network)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.learning_rate, weight_decay=1e-4)
        warmup = max(1, self.num_steps // 50)

        def factor(step: int) -> float:
            progress = min(1.0, max(0, step - warmup) / max(1, self.num_steps - warmup))
            cosine = 0.5 * (1 + torch.cos(torch.tensor(progress * torch.pi)).item())
            return min(1.0, (step + 1) / warmup) * cosine

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def trained(self) -> nn.Module:
        """The network to keep: the moving average if there is one."""
        return self.ema.module if self.ema is not None else self.network
