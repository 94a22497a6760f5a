"""Shapes, ranges and units, in one place.

| name | shape | range and unit |
|---|---|---|
| Images | batch, channel, height, width | float32 on [0, 1]; a complex image has 2 channels, as in deepinv |
| Blocks | batch, channel, frame, band | a waveform on [-1, 1], in consecutive blocks of as many samples as bands |
| Measurements | batch, anything | float32, on the scale of [0, 1] images, noise included |
| Latents | batch, latent channel, latent height, latent width | float32, unit variance over the training images |
| Variances | broadcasts over latents: batch, 1, 1, 1 | of the latent error, in units of the latents' variance |
| Severities | batch | in [0, 1]; 0 is the mildest level of a degradation |
| Scalars | batch | one float per image |
| Times | batch | the noise level as the prior's network receives it; DDPM's timesteps 0 ... T - 1 are whole numbers |
| Ids | batch | int64 content hash of the clean image |

Images need not be square. Measurements are real: a complex one is stored with its real and imaginary parts in a last
axis of length 2 (`workbench.core.measurement`).
"""

from jaxtyping import Float, Int64, Real
from torch import Tensor

Images = Float[Tensor, "batch channel height width"]
Blocks = Float[Tensor, "batch channel frame band"]
Measurements = Float[Tensor, "batch ..."]
Latents = Float[Tensor, "batch latent_channel latent_height latent_width"]
Variances = Float[Tensor, "batch #latent_channel #latent_height #latent_width"]
Severities = Float[Tensor, "batch"]
Scalars = Float[Tensor, "batch"]
Times = Real[Tensor, "batch"]
Ids = Int64[Tensor, "batch"]
