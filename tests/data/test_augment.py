import json
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pliant.data.augment import (
    Augment,
    add_simulated,
    random_camera,
    random_crop,
    random_recompression,
)
from pliant.errors import UserError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 8, side: int = 40) -> torch.Tensor:
    return torch.rand((count, 3, side, side), generator=generator(1))


def test_build_gives_inputs_of_the_asked_size_and_repeats() -> None:
    wish = Augment()
    images = batch(side=wish.canvas_px(32))
    targets = torch.tensor([1, 0] * 4)
    augment = wish.build(32)
    first, labels = augment(images, targets, generator(5))
    assert first.shape == (8, 3, 32, 32)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    again, labels_again = augment(images, targets, generator(5))
    assert torch.equal(first, again)
    assert torch.equal(labels, labels_again)


def test_canvas_keeps_the_pixels_per_face() -> None:
    wish = Augment()
    for size in (32, 96, 112, 225):
        per_face = size / 1.5
        assert wish.canvas_px(size) / wish.canvas_scale(1.5, size) == pytest.approx(per_face)
        assert wish.canvas_px(size) >= size * 1.25


def test_a_third_of_the_crops_is_the_untouched_centre_or_its_mirror() -> None:
    images = batch(300, 40)
    cut = random_crop(images, 32, scale=(0.9, 1.1), rotation=10, shift=0.1, generator=generator(2))
    centre = images[:, :, 4:36, 4:36]
    same = (cut - centre).abs().amax(dim=(1, 2, 3)) < 1e-4
    mirrored = (cut - centre.flip(-1)).abs().amax(dim=(1, 2, 3)) < 1e-4
    share = float((same | mirrored).float().mean())
    assert 0.25 < share < 0.42
    assert same.any()
    assert mirrored.any()


def test_no_jitter_is_a_centre_crop() -> None:
    images = batch(6, 40)
    cut = random_crop(images, 32, scale=(1, 1), rotation=0, shift=0, generator=generator())
    centre = images[:, :, 4:36, 4:36]
    error = torch.minimum(
        (cut - centre).abs().amax(dim=(1, 2, 3)), (cut - centre.flip(-1)).abs().amax(dim=(1, 2, 3))
    )
    assert float(error.max()) < 1e-4


def test_camera_of_strength_zero_changes_nothing_and_one_changes_much() -> None:
    images = batch()
    assert torch.allclose(
        random_camera(images, strength=0, generator=generator()), images, atol=1e-3
    )
    changed = random_camera(images, strength=1, generator=generator())
    assert float((changed - images).abs().mean()) > 0.02


def test_recompression_of_share_zero_only_rounds_to_bytes() -> None:
    images = batch()
    out = random_recompression(images, share=0, generator=generator())
    assert float((out - images).abs().max()) <= 0.5 / 255 + 1e-6
    worse = random_recompression(images, share=1, generator=generator())
    assert float((worse - images).abs().mean()) > 0.01


@given(
    live=st.integers(1, 10),
    attacks=st.integers(1, 10),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_simulated_attacks_keep_the_balance_and_the_bona_fide_faces(
    live: int, attacks: int, share: float, seed: int
) -> None:
    images = batch(live + attacks, 24)
    targets = torch.tensor([1] * live + [0] * attacks)
    new, labels = add_simulated(
        images, targets, kinds=("replay", "print"), share=share, generator=generator(seed)
    )
    assert torch.equal(labels, targets)
    assert torch.equal(new[:live], images[:live])
    replaced = (new[live:] != images[live:]).flatten(1).any(dim=1)
    if share == 0:
        assert not replaced.any()
    if share == 1:
        assert replaced.all()


def test_live_only_training_set_gets_half_attacks() -> None:
    images = batch(8, 24)
    new, labels = add_simulated(
        images, torch.ones(8, dtype=torch.long), kinds=("replay",), share=0.5, generator=generator()
    )
    assert int((labels == 0).sum()) == 4
    changed = (new != images).flatten(1).any(dim=1)
    assert torch.equal(changed, labels == 0)


def test_without_kinds_or_faces_nothing_happens() -> None:
    images, none = batch(4, 24), torch.zeros(4, dtype=torch.long)
    assert (
        add_simulated(images, none, kinds=("print",), share=1, generator=generator())[0] is images
    )
    ones = torch.ones(4, dtype=torch.long)
    assert add_simulated(images, ones, kinds=(), share=1, generator=generator())[0] is images


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"simulate": ("reply",)}, 'unknown simulated attack "reply"; allowed: replay, print'),
        ({"simulate_share": 1.5}, "simulate_share must lie in"),
        ({"camera": float("nan")}, r"augment.camera must lie in \[0, 2\], got nan"),
        ({"camera": 2.5}, r"augment.camera must lie in \[0, 2\]"),
        ({"recompress": -0.1}, r"augment.recompress must lie in"),
        ({"rotation": float("inf")}, r"augment.rotation must lie in"),
        ({"shift": 0.6}, r"augment.shift must lie in \[0, 0.5\]"),
        ({"scale": (0.8, 1.6)}, "scale must be two factors"),
        ({"scale": (0.8,)}, "scale must be two factors"),
    ],
)
def test_refusals(settings: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        Augment(**settings)


def test_settings_survive_json() -> None:
    for settings in (Augment(), Augment(simulate=(), scale=(0.9, 1.1))):
        assert Augment(**json.loads(json.dumps(asdict(settings)))) == settings


def test_attacks_may_be_listed_with_commas():
    for words in ("replay,print", ("replay,print",), ["replay", "print"]):
        assert Augment(simulate=words).simulate == ("replay", "print")  # pyright: ignore
    assert Augment(simulate=("",)).simulate == ()
