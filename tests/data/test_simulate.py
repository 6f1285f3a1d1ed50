import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pliant.data.simulate import SIMULATIONS, blur, simulate_print, simulate_replay, to_linear


def faces(count: int = 4, side: int = 48) -> torch.Tensor:
    """Smooth ovals on a gradient: no detail of their own above a few cycles per image."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    oval = torch.exp(-((x / 0.5) ** 2 + (y / 0.7) ** 2) * 2)
    tint = torch.tensor([0.9, 0.7, 0.55]).reshape(3, 1, 1)
    return torch.stack([0.2 + 0.6 * oval * tint * (0.8 + 0.05 * k) for k in range(count)])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def detail(images: torch.Tensor) -> torch.Tensor:
    """Energy above a quarter of the sampling rate, one number an image."""
    spectrum = torch.fft.fft2(images - images.mean(dim=(2, 3), keepdim=True)).abs() ** 2
    rate = torch.fft.fftfreq(images.shape[-1]).abs()
    high = torch.maximum(rate[:, None], rate[None, :]) > 0.25
    return spectrum[..., high].sum(dim=(1, 2))


@pytest.mark.parametrize("name", SIMULATIONS)
def test_contract_range_shape_repeatable_and_input_untouched(name: str) -> None:
    images = faces()
    before = images.clone()
    first = SIMULATIONS[name](images, generator(3))
    assert first.shape == images.shape
    assert first.dtype == torch.float32
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    assert torch.equal(first, SIMULATIONS[name](images, generator(3)))
    assert not torch.equal(first, SIMULATIONS[name](images, generator(4)))
    assert torch.equal(images, before)


@given(side=st.integers(16, 50), seed=st.integers(0, 50), name=st.sampled_from(list(SIMULATIONS)))
def test_any_side_gives_finite_pixels(side: int, seed: int, name: str) -> None:
    shown = SIMULATIONS[name](faces(2, side), generator(seed))
    assert torch.isfinite(shown).all()


def test_screens_add_moire_on_most_faces() -> None:
    images = faces(1).expand(64, -1, -1, -1)
    more = detail(simulate_replay(images, generator())) > 4 * detail(images)
    assert float(more.float().mean()) > 0.5


def test_paper_has_less_contrast_and_no_deep_black() -> None:
    images = faces(1).expand(64, -1, -1, -1)
    images = (images - images.amin()) / (images.amax() - images.amin())
    shown = simulate_print(images, generator())
    contrast = shown.flatten(1).std(dim=1) < images.flatten(1).std(dim=1)
    assert float(contrast.float().mean()) > 0.6
    darkest = shown.flatten(1).quantile(0.01, dim=1) > images.flatten(1).quantile(0.01, dim=1)
    assert float(darkest.float().mean()) > 0.6


def test_blur_matches_scipy_per_image() -> None:
    images = torch.rand((3, 3, 24, 24), generator=generator())
    sigma = torch.tensor([0.0, 0.8, 1.6]).reshape(3, 1, 1, 1)
    ours = blur(images, sigma).numpy()
    assert np.allclose(ours[0], images[0].numpy(), atol=1e-6)
    for k in (1, 2):
        for c in range(3):
            slow = gaussian_filter(images[k, c].numpy(), float(sigma[k]), mode="nearest", radius=5)
            assert np.allclose(ours[k, c], slow, atol=1e-5)


def test_linear_light_by_hand() -> None:
    assert to_linear(torch.tensor([[[[0.5]]]])).item() == pytest.approx(0.5**2.2)
