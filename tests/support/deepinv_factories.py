"""Factories of deepinv physics, sound and unsound, as a user would write them."""

import torch
from deepinv.physics import MRI, Blur, Downsampling, GaussianNoise, Inpainting, LinearPhysics, Physics, PoissonNoise
from torch import Tensor


def defocus(severity: float, max_radius: float = 4.0) -> Blur:
    """Sound: convolution with a disc of 0.5 to max_radius pixels."""
    offset = torch.arange(-5.0, 6)
    distance = (offset[:, None] ** 2 + offset**2).sqrt()
    disc = (0.5 + (max_radius - 0.5) * severity + 0.5 - distance).clamp(0, 1)
    return Blur(filter=(disc / disc.sum())[None, None], padding="replicate")


def masked(severity: float, image_shape: tuple[int, int, int], seed: int, device: torch.device) -> Inpainting:
    """Sound: a mask drawn by the image's own seed."""
    draw = torch.rand(1, *image_shape[1:], generator=torch.Generator().manual_seed(seed))
    return Inpainting(img_size=image_shape, mask=(draw >= 0.8 * severity).float(), device=device)


def halved(severity: float, image_shape: tuple[int, int, int]) -> Downsampling:
    """Sound: y has a quarter of the pixels, and A_dagger leads back."""
    return Downsampling(img_size=image_shape, filter="bilinear", factor=2)


class Gamma(Physics):
    """Nonlinear."""

    def __init__(self, exponent: float, **fields: object) -> None:
        super().__init__(**fields)
        self.exponent = exponent

    def A(self, x: Tensor, **_: object) -> Tensor:
        return x.clamp(min=1e-3) ** self.exponent


def gamma(severity: float) -> Physics:
    """Sound."""
    return Gamma(1 + severity)


def masked_frequencies(severity: float, image_shape: tuple[int, int, int]) -> LinearPhysics:
    """Sound, as in MRI: every second row of frequencies is missing, and y is their real and imaginary parts."""
    rows = (torch.arange(image_shape[1]) % 2 == 0).float()[:, None]

    def measure(x: Tensor, **_: object) -> Tensor:
        frequencies = torch.fft.fft2(x, norm="ortho")
        return rows * torch.cat([frequencies.real, frequencies.imag], 1)

    def adjoint(y: Tensor, **_: object) -> Tensor:
        real, imaginary = (rows * y).chunk(2, 1)
        return torch.fft.ifft2(torch.complex(real, imaginary), norm="ortho").real

    return LinearPhysics(A=measure, A_adjoint=adjoint, img_size=image_shape)


def kept_rows(severity: float, image_shape: tuple[int, int, int]) -> Tensor:
    """(height, width): 1 in the rows of frequencies that are measured, from all down to every third."""
    return (torch.arange(image_shape[1]) % (1 + round(2 * severity)) == 0).float()[:, None].expand(-1, image_shape[2])


def mri(severity: float, image_shape: tuple[int, int, int], sigma: float = 0.1) -> MRI:
    """Sound: complex images and frequencies as 2 channels, of which some rows are measured."""
    mask = kept_rows(severity, image_shape)
    return MRI(mask=mask, img_size=image_shape[1:], noise_model=GaussianNoise(sigma))


def complex_mri(severity: float, image_shape: tuple[int, int, int], sigma: float = 0.1) -> LinearPhysics:
    """Sound: the same frequencies as complex numbers; sigma is that of a complex value."""
    mask, shifted = kept_rows(severity, image_shape), {"dim": (-2, -1)}

    def measure(x: Tensor, **_: object) -> Tensor:
        image = torch.fft.ifftshift(torch.complex(x[:, 0], x[:, 1]), **shifted)
        return mask * torch.fft.fftshift(torch.fft.fft2(image, norm="ortho"), **shifted)

    def adjoint(y: Tensor, **_: object) -> Tensor:
        image = torch.fft.ifft2(torch.fft.ifftshift(mask * y, **shifted), norm="ortho")
        return torch.view_as_real(torch.fft.fftshift(image, **shifted)).permute(0, 3, 1, 2)

    return LinearPhysics(A=measure, A_adjoint=adjoint, img_size=image_shape, noise_model=GaussianNoise(sigma))


def masked_gamma(severity: float, image_shape: tuple[int, int, int], seed: int) -> Physics:
    """Sound and not linear, behind a mask."""
    mask = masked(severity, image_shape, seed, torch.device("cpu")).mask
    return Physics(A=lambda x, **_: mask * x.clamp(min=1e-3) ** 2)


def pasted_over(severity: float, image_shape: tuple[int, int, int], seed: int) -> Physics:
    """Sound: what a mask drops is filled with white."""
    mask = masked(severity, image_shape, seed, torch.device("cpu")).mask
    return Physics(A=lambda x, **_: mask * x + 1 - mask)


def highlights(severity: float) -> Physics:
    """Sound: 0 for most images, and yet every pixel is measured."""
    return Physics(A=lambda x, **_: (x - 0.95).relu())


def forgotten(severity: float) -> Physics:
    """Unsound: y is flat, and nothing leads back."""
    return Physics(A=lambda x, **_: x.flatten(1)[:, ::2])


def wrong_way_back(severity: float) -> Physics:
    class Flat(Physics):
        def A_dagger(self, y: Tensor, **_: object) -> Tensor:
            return y

    return Flat(A=lambda x, **_: x.flatten(1))


def rounded(severity: float) -> Physics:
    return Physics(A=lambda x, **_: (x * 8).round() / 8)


def detached(severity: float) -> Physics:
    return Physics(A=lambda x, **_: x.detach())


def in_numpy(severity: float) -> Physics:
    return Physics(A=lambda x, **_: torch.from_numpy(x.numpy().copy()))


def drawn(severity: float) -> Physics:
    mask = torch.rand(1, 1, 16, 16)
    return LinearPhysics(A=lambda x, **_: x * mask, A_adjoint=lambda y, **_: y * mask)


def drawn_at_each_call(severity: float) -> Physics:
    return Physics(A=lambda x, **_: x * torch.rand(1, 1, 16, 16))


def for_two_images(severity: float) -> Physics:
    gain = torch.tensor([1.0, 0.5])[:, None, None, None]
    return Physics(A=lambda x, **_: x * gain)


def mixing_images(severity: float) -> Physics:
    return Physics(A=lambda x, **_: x - x.mean(0))


def growing(severity: float, image_shape: tuple[int, int, int]) -> Downsampling:
    return Downsampling(img_size=image_shape, filter="bilinear", factor=2 if severity < 0.7 else 4)


def of_another_size(severity: float) -> Physics:
    return Inpainting(img_size=(1, 5, 5), mask=torch.ones(1, 5, 5))


def noisy(severity: float) -> Physics:
    return Gamma(1.0, noise_model=GaussianNoise(sigma=0.1 + 0.1 * severity))


def unevenly_noisy(severity: float) -> Physics:
    return Gamma(1.0, noise_model=GaussianNoise(sigma=torch.tensor([0.1, 0.2])))


def counting(severity: float) -> Physics:
    return Gamma(1.0, noise_model=PoissonNoise(gain=0.1))


def clipping(severity: float) -> Physics:
    return Gamma(1.0, sensor_model=lambda y: y.clamp(0.2, 0.8))


def not_adjoint(severity: float) -> LinearPhysics:
    return LinearPhysics(A=lambda x, **_: x.roll(1, 2), A_adjoint=lambda y, **_: y.roll(1, 2))


def blind(severity: float) -> Physics:
    return Physics(A=lambda x, **_: 0 * x + 0.5)


def infinite(severity: float) -> Physics:
    return Physics(A=lambda x, **_: x / 0)


def in_parts(severity: float) -> Physics:
    return defocus(severity).stack(defocus(severity))


def no_physics(severity: float) -> int:
    return 3


def failing(severity: float) -> Physics:
    raise KeyError("calibration")


ALREADY_MADE = Gamma(1.0)
NOT_CALLABLE = 3


def inverted(y: Tensor, physics: LinearPhysics) -> Tensor:
    """A reconstruction: Tikhonov's regularised inverse, by deepinv's conjugate gradients."""
    return physics.prox_l2(physics.A_adjoint(y), y, gamma=10.0)


def smoothed(y: Tensor, physics: Physics) -> Tensor:
    """A reconstruction: total variation by 20 steps of deepinv's proximal gradient descent."""
    from deepinv.optim import L2, PGD, TVPrior

    descent = PGD(data_fidelity=L2(), prior=TVPrior(n_it_max=10), stepsize=0.5, lambda_reg=0.02, max_iter=20)
    return descent(y, physics)


def half(y: Tensor, physics: Physics) -> Tensor:
    """Unsound: images of another size."""
    return physics.A_dagger(y)[..., ::2]


class Inverse(torch.nn.Module):
    """A reconstructor as a class without arguments."""

    def forward(self, y: Tensor, physics: LinearPhysics) -> Tensor:
        return inverted(y, physics)
