"""Sparsification by iterative magnitude pruning: the smallest weights become zero, the others are trained on.

Sources: Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015; the schedule
is the cubic one of Zhu and Gupta, "To Prune, or Not to Prune", 2017 (arXiv 1710.01878), section 3.
"""

from __future__ import annotations

import torch

from zoobench.generators.twin_networks import Noise, TwinNetwork


class MagnitudePruning:
    """The arithmetic of magnitude pruning for many models at once.

    The weights of all layers of a model are ranked together; biases and normalisations are not pruned. What is pruned
    stays zero.

    Parameters
    ----------
    network : TwinNetwork
        The networks.
    sparsity : float
        Share of the weights that are zero in the end, from 0, below 1.
    n_epochs : int
        Epochs. The sparsity is reached in the middle of them; in the second half nothing more is pruned.
    """

    def __init__(self, network: TwinNetwork, *, sparsity: float, n_epochs: int) -> None:
        self.network, self.sparsity = network, sparsity
        self.decayed = network.trained
        self.n_pruning_epochs = (n_epochs + 1) // 2
        weights = [layer.weight.slice for layer in network.layers]
        self._columns = torch.cat([torch.arange(place.start, place.stop) for place in weights])

    def sparsity_at(self, epoch: int) -> float:
        """Share of the weights that are zero while epoch 1, 2, ... is trained."""
        done = min(1.0, epoch / self.n_pruning_epochs)
        return self.sparsity * (1 - (1 - done) ** 3)

    def start(self, weights: torch.Tensor) -> torch.Tensor:
        """Parameters of networks with these weights: the weights themselves."""
        self._columns = self._columns.to(weights.device)
        self._kept = torch.ones_like(weights)
        return weights.clone()

    def begin_epoch(self, parameters: torch.Tensor, epoch: int) -> None:
        """Prune, in place, before the epoch."""
        if epoch > self.n_pruning_epochs:
            return
        n_zero = round(self.sparsity_at(epoch) * len(self._columns))
        # What is zero already is the smallest, and stays among the pruned. Stable, so that ties fall the same way.
        order = parameters[:, self._columns].abs().argsort(dim=1, stable=True)
        self._kept.scatter_(1, self._columns[order[:, :n_zero]], 0.0)
        parameters.mul_(self._kept)

    def training(
        self, parameters: torch.Tensor, images: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits, and no penalty."""
        return self.network.training(parameters * self._kept, images), parameters.new_zeros(len(parameters))

    def after_step(self, parameters: torch.Tensor) -> None:
        """Keep at zero what is pruned: momentum would move it."""
        parameters.mul_(self._kept)

    def evaluated(self, parameters: torch.Tensor) -> torch.Tensor:
        """The weights of the networks that are evaluated."""
        return parameters.clone()
