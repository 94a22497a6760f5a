"""Operators on sound: each acts on the waveform as it says, and the likelihood is that of the waveform."""

import math

import pytest
import torch
from torch import Tensor

from workbench.core import randomness
from workbench.core.config import UserError
from workbench.core.sound import BANDS, FRAMES, SAMPLE_RATE, SAMPLES, in_blocks, to_image, to_waveform
from workbench.degradations import MRI, AtSeverity, AudioClipping, AudioNoise, Bandwidth, PacketLoss, Sound
from workbench.degradations.packet_loss import PACKET, lost_packets

NUM = 3
IDS = torch.arange(NUM)
SHAPE = (1, BANDS, FRAMES)


def waveforms() -> Tensor:
    """Noise of 0.1 with a peak of about 0.4, (batch, samples)."""
    return 0.1 * randomness.normal(IDS, ("waveform",), (SAMPLES,))


def images() -> Tensor:
    return to_image(in_blocks(waveforms()))


def levels(severity: float) -> Tensor:
    return torch.full((NUM,), severity)


def test_noise_grows_by_equal_factors() -> None:
    operator = AudioNoise()
    torch.testing.assert_close(
        operator.noise_level(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([0.005, 0.1**1.5, 0.2])
    )
    m = operator.measure(images(), levels(0.5), IDS, 0)
    assert (m.y.flatten(1) - waveforms()).std() == pytest.approx(0.1**1.5, rel=0.02)
    assert operator.describe(1.0) == "noise std 0.2000 in the waveform"


def test_samples_beyond_a_fraction_of_the_peak_are_clipped() -> None:
    m = AudioClipping(noise_std=0.0).measure(images(), torch.tensor([0.0, 0.5, 1.0]), IDS, 0)
    peaks = waveforms().abs().amax(1)
    expected = peaks * torch.tensor([1.0, math.sqrt(0.05), 0.05])
    torch.testing.assert_close(m.params["level"].flatten(), expected, rtol=1e-4, atol=0)
    clipped = torch.minimum(torch.maximum(waveforms(), -expected[:, None]), expected[:, None])
    torch.testing.assert_close(m.y.flatten(1), clipped, rtol=0, atol=1e-5)


def test_a_clipped_sample_only_says_that_the_waveform_is_at_least_the_level() -> None:
    operator = AudioClipping(noise_std=0.0)
    m = operator.measure(images(), levels(0.5), IDS, 0)

    def pull(factor: float) -> tuple[Tensor, Tensor]:
        """The gradient of the residual with respect to a waveform, and where y is clipped."""
        waveform = (factor * in_blocks(waveforms())).requires_grad_()
        residual = m.residual(operator.hear(waveform, m.params))
        (gradient,) = torch.autograd.grad(residual.square().sum(), waveform)
        return gradient * waveform.detach().sign(), m.y.abs() >= 0.999 * m.params["level"]

    louder, clipped = pull(2.0)
    assert clipped.any()
    assert (louder[clipped] == 0).all()
    assert (louder[~clipped] > 0).any(), "what is not clipped is known"
    softer, _ = pull(0.1)
    assert bool((softer[clipped] < 0).all()), "descent makes it louder"


def test_the_level_of_a_users_recording_is_its_peak() -> None:
    operator = AudioClipping()
    y = waveforms().clamp(-0.03, 0.03)
    params = operator.parameters(levels(0.9), IDS, 0, SHAPE)
    m, lines = operator.given_measurement(y, levels(0.9), IDS, params)
    assert not lines
    assert torch.equal(m.params["level"].flatten(), torch.full((NUM,), 0.03))
    assert m.residual(operator.A(images(), m.params)).abs().max() < 1e-5
    torch.testing.assert_close(operator.severity_of(params), levels(0.9))


def test_frequencies_above_the_cutoff_are_removed() -> None:
    seconds = torch.arange(SAMPLES, dtype=torch.float64) / SAMPLE_RATE
    low, high = ((2 * math.pi * frequency * seconds).sin().float() for frequency in (1000, 2000))
    operator = Bandwidth(noise_std=0.0)
    x = to_image(in_blocks(torch.stack([low + high] * NUM) / 4))
    params = operator.parameters(torch.tensor([0.0, 0.5, 1.0]), IDS, 0, SHAPE)
    y = operator.A(x, params).flatten(1)
    torch.testing.assert_close(params["cutoff"].flatten(), torch.tensor([4000.0, 4000 / math.sqrt(8), 500.0]))
    torch.testing.assert_close(y, torch.stack([(low + high) / 4, low / 4, 0 * low]), rtol=0, atol=1e-3)
    torch.testing.assert_close(operator.hear(in_blocks(y), params), in_blocks(y), rtol=0, atol=1e-5)  # a projection
    torch.testing.assert_close(operator.severity_of(params), torch.tensor([0.0, 0.5, 1.0]))


def test_packets_are_lost_as_a_whole_and_often_enough() -> None:
    operator, many = PacketLoss(), torch.arange(300)
    mask = operator.parameters(torch.ones(300), many, 0, SHAPE)["mask"].flatten(1)
    packets = mask[:, : SAMPLES // PACKET * PACKET].unflatten(1, (-1, PACKET))
    assert torch.equal(packets.amin(2), packets.amax(2))
    assert (1 - mask).mean() == pytest.approx(0.6, abs=0.02)
    mild = operator.parameters(torch.zeros(300), many, 0, SHAPE)["mask"].flatten(1)
    assert (1 - mild).mean() == pytest.approx(0.02, abs=0.005)
    assert (mild >= mask).all(), "what arrives at a severity arrives at any lower one"
    m = operator.measure(images(), levels(1.0), IDS, 0)
    assert (m.y[m.params["mask"] == 0] == 0).all()
    assert operator.severity_of({"mask": mask[:, None]}).mean() == pytest.approx(1, abs=0.05)


def test_a_mask_of_samples_is_taken() -> None:
    mask = (waveforms() > 0).float()
    taken, lines = PacketLoss().given_parameters({"mask": mask}, SHAPE)
    assert not lines
    assert torch.equal(taken["mask"].flatten(1), mask)
    with pytest.raises(UserError, match=r"image 1 .*mask of packet_loss keeps no sample"):
        PacketLoss().given_parameters({"mask": mask * torch.tensor([[1.0], [0.0], [1.0]])}, SHAPE)


def test_lost_packets_are_long_runs_of_zeros() -> None:
    waveform = torch.ones(1000)
    waveform[100:179] = 0  # one sample too short
    waveform[300:380] = 0
    waveform[990:] = 0
    assert torch.equal(lost_packets(waveform).nonzero().flatten(), torch.arange(300, 380))
    waveform[:] = 0
    assert lost_packets(waveform).all()


@pytest.mark.parametrize("operator", [AudioNoise(), AudioClipping(), Bandwidth(), PacketLoss()], ids=lambda o: o.kind)
def test_y_is_a_waveform_whose_image_the_encoder_reads(operator: Sound) -> None:
    m = operator.measure(images(), levels(0.5), IDS, 0)
    assert m.y.flatten(1).shape == (NUM, SAMPLES)
    torch.testing.assert_close(to_waveform(m.encoder_input()), m.y, rtol=0, atol=1e-5)
    for y in (m.y, m.y.flatten(2), m.y.flatten(1)):
        assert operator.image_shape(y) == SHAPE
        given, _ = operator.given_measurement(y, levels(0.5), IDS, m.params)
        torch.testing.assert_close(given.y, m.y)
    with pytest.raises(UserError, match="with a multiple of 64 samples: pad them with zeros"):
        operator.image_shape(torch.zeros(2, 8001))


def test_which_operators_measure_sound() -> None:
    assert AtSeverity(member=Bandwidth()).measures_sound
    assert not AtSeverity(member=MRI()).measures_sound
