"""Augmentation: what PIL and plain slicing give, from the generator's draws alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from zoobench.generators.augmentation import MAX_ANGLE, PADDING, apply_draws, augment, draw

KINDS = ["crop_flip", "flip_rotate"]
BLACK = (-0.5, 0.25, -2.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 40, side: int = 32) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=generator(99))


def test_cropping_is_padding_and_slicing() -> None:
    """Four black pixels on each side, a window of the old size at the drawn place, of an image or its mirror image."""
    batch, draws = images(), draw("crop_flip", 40, generator())
    got = apply_draws(batch, "crop_flip", draws, black=BLACK)
    for image, (mirrored, top, left), result in zip(batch, draws.int().tolist(), got, strict=True):
        padded = torch.tensor(BLACK)[:, None, None].repeat(1, 40, 40)
        padded[:, 4:36, 4:36] = image.flip(2) if mirrored else image
        assert torch.equal(result, padded[:, top : top + 32, left : left + 32])


def test_rotation_is_that_of_pil() -> None:
    """Mirrored or not, then turned by the drawn angle about the centre: the pixels that PIL takes, and black."""
    batch = torch.randint(1, 256, (60, 1, 64, 64), generator=generator(1))
    draws = draw("flip_rotate", 60, generator())
    got = apply_draws(batch, "flip_rotate", draws, black=(0,))
    for image, (mirrored, angle, _), result in zip(batch, draws.tolist(), got, strict=True):
        pil = Image.fromarray(image[0].numpy().astype(np.uint8))
        if mirrored:
            pil = pil.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        assert np.array_equal(result[0].numpy(), np.asarray(pil.rotate(angle)))


def test_corners_of_rotated_images_are_black_in_each_channel() -> None:
    """What the image does not reach has the normalised value of black, channel by channel."""
    draws = torch.tensor([[0.0, MAX_ANGLE, 0.0]], dtype=torch.float64)
    corner = apply_draws(images(1), "flip_rotate", draws, black=BLACK)[0, :, 0, 0]
    assert corner.tolist() == list(BLACK)


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_alone_decides(kind: str) -> None:
    """Same seed, same batch; another seed, another; torch's global state and the images stay as they were."""
    batch = images()
    before, state = batch.clone(), torch.get_rng_state()
    first = augment(batch, kind, generator(), black=BLACK)
    torch.manual_seed(12345)
    assert torch.equal(first, augment(batch, kind, generator(), black=BLACK))
    torch.set_rng_state(state)
    assert not torch.equal(first, augment(batch, kind, generator(1), black=BLACK))
    assert torch.equal(batch, before)
    assert (first.shape, first.dtype) == (batch.shape, batch.dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_global_randomness_is_not_touched(kind: str) -> None:
    """Nothing is drawn from torch's global generator."""
    state = torch.get_rng_state()
    augment(images(3), kind, generator(), black=BLACK)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_several_models_can_be_augmented_at_once(kind: str) -> None:
    """Draws of one model after the other, applied together, are what each gives alone."""
    batch = images(20)
    draws = [draw(kind, 10, generator(seed)) for seed in (1, 2)]
    together = apply_draws(batch, kind, torch.cat(draws), black=BLACK)
    alone = [
        augment(some, kind, generator(seed), black=BLACK) for some, seed in zip(batch.split(10), (1, 2), strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


def test_draws_cover_what_they_may_and_no_more() -> None:
    """All 81 windows come, each about as often; half of the images are mirrored; angles fill -20 to 20 evenly."""
    n = 20_000
    mirrored, *window = draw("crop_flip", n, generator()).T
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / n**0.5
    counts = torch.bincount((window[0] * (2 * PADDING + 1) + window[1]).long(), minlength=81)
    assert len(counts) == 81
    # Chi-squared with 80 degrees of freedom: 140 is beyond its 99.99th percentile.
    assert float(((counts - n / 81) ** 2 / (n / 81)).sum()) < 140
    mirrored, angles, _ = draw("flip_rotate", n, generator()).T
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / n**0.5
    assert -MAX_ANGLE <= angles.min() < -0.99 * MAX_ANGLE
    assert 0.99 * MAX_ANGLE < angles.max() <= MAX_ANGLE
    assert abs(angles.mean()) < 4 * MAX_ANGLE / (3 * n) ** 0.5


def test_an_unknown_kind_is_refused() -> None:
    """The message names the kinds there are."""
    with pytest.raises(ValueError, match="'blur' is unknown; there are 'crop_flip' and 'flip_rotate'"):
        augment(images(1), "blur", generator(), black=BLACK)
