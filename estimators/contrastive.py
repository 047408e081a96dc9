"""Two views of each weight vector, and the loss that draws their latents together."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

#: Random erasing as it is usual with images: share of the area, and ratio of the sides.
ERASED_AREA, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)

#: Widths of the projection head of the papers.
HEAD_WIDTH, HEAD_LAYERS, HEAD_OUT = 400, 4, 50


class ProjectionHead(nn.Sequential):
    """What the contrastive loss sees of a latent vector: four layers of 400 with batch normalisation, then 50.

    Parameters
    ----------
    latent_dim : int
        Length of the latent vector.
    """

    def __init__(self, latent_dim: int) -> None:
        layers: list[nn.Module] = []
        for n_in in [latent_dim] + [HEAD_WIDTH] * (HEAD_LAYERS - 1):
            layers += [nn.Linear(n_in, HEAD_WIDTH), nn.BatchNorm1d(HEAD_WIDTH), nn.ReLU()]
        super().__init__(*layers, nn.Linear(HEAD_WIDTH, HEAD_OUT))


def nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """Normalised, temperature-scaled cross entropy: each row's partner among all rows of both views.

    Parameters
    ----------
    first, second : Tensor of shape (n, d)
        Projections of the two views; row i of one belongs to row i of the other.
    temperature : float
        What cosine similarities are divided by.

    Returns
    -------
    Tensor of shape ()
        Mean over the 2 n rows.

    Examples
    --------
    >>> import torch
    >>> from zoobench.estimators.contrastive import nt_xent
    >>> views = torch.eye(3)
    >>> round(float(nt_xent(views, views, 0.1)), 4), round(float(nt_xent(views, views.roll(1, 0), 0.1)), 4)
    (0.0002, 10.0002)
    """
    n = len(first)
    both = F.normalize(torch.cat([first, second]), dim=1)
    similarity = both @ both.T / temperature
    similarity = similarity.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=both.device), -torch.inf)
    partner = torch.arange(2 * n, device=both.device).roll(n)
    return F.cross_entropy(similarity, partner)


def erased(
    rows: torch.Tensor, columns: torch.Tensor, n_states: int, probability: float, generator: torch.Generator
) -> torch.Tensor:
    """Which numbers of each state are erased: those in one rectangle of the sheet whose rows are tokens.

    Parameters
    ----------
    rows, columns : Tensor of shape (n_weights,)
        Place of each number on the sheet, from 0 to 1.
    n_states : int
        States to draw for.
    probability : float
        How probable it is that anything is erased.
    generator : torch.Generator
        Where the draws come from.

    Returns
    -------
    Tensor of shape (n_states, n_weights), bool
    """
    share, ratio, top, left, chance = torch.rand(5, n_states, 1, generator=generator, device=rows.device)
    area = ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * share
    low, high = math.log(ERASED_RATIO[0]), math.log(ERASED_RATIO[1])
    aspect = torch.exp(low + (high - low) * ratio)
    # A side longer than the sheet becomes as long as the sheet, and the other side makes up for it.
    height = (area * aspect).sqrt().clamp(area, torch.ones_like(area))
    width = area / height
    top, left = top * (1 - height), left * (1 - width)
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return inside & (chance < probability)
