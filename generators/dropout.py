"""Which units a model drops in training: a function of its seed, the image's place in the training, and the unit.

No state is carried from draw to draw, so every way of training a model drops the same units, whatever it computes side
by side. The compiled engine repeats the arithmetic of this page.
"""

from __future__ import annotations

import numpy as np

#: Layers are numbered apart by this many units, more than any of them has.
UNITS_A_LAYER = 2**20

#: Of each hash, these many bits decide; a float32 holds them exactly.
BITS = 24

#: What the hash multiplies by, and how far apart it takes the numbers of the units to be.
MULTIPLIERS = (0x21F0AAAD, 0x735A2D97)
GOLDEN = 0x9E3779B9


class DropoutMasks:
    """The masks of one model.

    Parameters
    ----------
    seed : int
        Seed of the model's stream of dropout, below 2**64.

    Attributes
    ----------
    key : ndarray of shape (2,), uint32
        The seed in two halves.
    n_seen : int
        Images that the model was trained on before the present batch. Whoever trains counts them.

    Notes
    -----
    The hash is the two-round multiply-xorshift of C. Wellons' hash-prospector (its constants, public domain). It is
    applied twice for each image, and once more for each unit to that result plus a multiple of the golden ratio.
    """

    def __init__(self, seed: int) -> None:
        self.key = np.array([seed & 0xFFFFFFFF, seed >> 32], dtype=np.uint32)
        self.n_seen = 0

    def draw(self, p: float, n_images: int, units: range) -> np.ndarray:
        """Masks of the present batch.

        Parameters
        ----------
        p : float
            Probability of dropping a unit.
        n_images : int
            Images of the batch.
        units : range
            Numbers of the units.

        Returns
        -------
        ndarray of shape (n_images, n_units), float32
            0 for units that are dropped, ``1 / (1 - p)`` for those that are kept.
        """
        # Arrays, not numbers: their overflow is the arithmetic modulo 2**32 that is meant, and no warning.
        images = np.arange(self.n_seen, self.n_seen + n_images, dtype=np.uint64).astype(np.uint32)
        images = _mixed(_mixed(images + self.key[:1]) + self.key[1:])
        numbers = np.arange(units.start, units.stop, dtype=np.uint32) * np.uint32(GOLDEN)
        kept = _mixed(images[:, None] + numbers) >> np.uint32(32 - BITS) >= np.uint32(dropout_threshold(p))
        return kept * dropout_scale(p)


def dropout_threshold(p: float) -> int:
    """Units whose 24 bits are below this are dropped."""
    return round(p * 2**BITS)


def dropout_scale(p: float) -> np.float32:
    """What the kept units are multiplied by, so that their mean stays."""
    return np.float32(1 / (1 - p))


def _mixed(h: np.ndarray) -> np.ndarray:
    h = h ^ (h >> np.uint32(16))
    h *= np.uint32(MULTIPLIERS[0])
    h ^= h >> np.uint32(15)
    h *= np.uint32(MULTIPLIERS[1])
    h ^= h >> np.uint32(15)
    return h
