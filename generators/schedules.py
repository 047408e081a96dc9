"""Schedules of the learning rate: what it is at each step of a training, and the momentum beside it, as plain arrays.

Every way of training reads the same numbers here, instead of asking an optimizer's scheduler in the midst of its steps.
"""

from __future__ import annotations

import numpy as np

#: The schedules there are.
SCHEDULES = ("constant", "onecycle")

#: The defaults of :class:`torch.optim.lr_scheduler.OneCycleLR`.
_RISING_SHARE = 0.3
_FIRST_DIVISOR = 25.0
_LAST_DIVISOR = 1e4
_LEAST_MOMENTUM, _LARGEST_MOMENTUM = 0.85, 0.95


def schedule(name: str, *, lr: float, momentum: float, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Learning rate and momentum at each step of a training.

    Parameters
    ----------
    name : {"constant", "onecycle"}
        ``"onecycle"`` is :class:`torch.optim.lr_scheduler.OneCycleLR` with its defaults: over the first three tenths of
        the steps the learning rate rises from a twenty-fifth of ``lr`` to ``lr``, then falls to a ten-thousandth of
        where it started, both along half a cosine. The momentum goes from .95 to .85 and back, whatever ``momentum``
        is.
    lr : float
        The learning rate; of ``"onecycle"``, the largest.
    momentum : float
        Of SGD; for Adam and AdamW, ``beta1``.
    n_steps : int
        Steps of the whole training. From 0.

    Returns
    -------
    lr, momentum : ndarray of shape (n_steps,), float64
        Those that each step is made with. Not to be written to.

    Raises
    ------
    ValueError
        If the schedule is unknown.

    Notes
    -----
    Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates" (2019). In a
    training of one to three steps the peak would lie before the first of them: the learning rate only falls.

    Examples
    --------
    >>> from zoobench.generators.schedules import schedule
    >>> rates, momenta = schedule("onecycle", lr=0.1, momentum=0.9, n_steps=10)
    >>> [round(float(rate), 4) for rate in rates[[0, 2, 9]]]
    [0.004, 0.1, 0.0]
    """
    if name == "constant":
        # One number in memory, however many steps.
        return np.broadcast_to(float(lr), n_steps), np.broadcast_to(float(momentum), n_steps)
    if name != "onecycle":
        raise ValueError(f"schedule {name!r} is unknown; known: {', '.join(SCHEDULES)}")
    steps = np.arange(n_steps, dtype=np.float64)
    # No whole number: the peak may lie between two steps, or before the first.
    peak, last = _RISING_SHARE * n_steps - 1, n_steps - 1
    rising = steps <= peak
    with np.errstate(divide="ignore", invalid="ignore"):  # where nothing rises
        share = np.where(rising, steps / peak, (steps - peak) / (last - peak))
    slow, slowest = lr / _FIRST_DIVISOR, lr / _FIRST_DIVISOR / _LAST_DIVISOR
    rates = np.where(rising, _cosine(slow, lr, share), _cosine(lr, slowest, share))
    up, down = (_LEAST_MOMENTUM, _LARGEST_MOMENTUM), (_LARGEST_MOMENTUM, _LEAST_MOMENTUM)
    return rates, np.where(rising, _cosine(*down, share), _cosine(*up, share))


def _cosine(start: float, end: float, share: np.ndarray) -> np.ndarray:
    """From one value to another along half a cosine; ``share`` is how much of the way is done."""
    return end + (start - end) / 2 * (1 + np.cos(np.pi * share))
