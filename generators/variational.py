"""Sparsification by variational dropout: each weight learns its own noise, and what is noise alone is dropped.

Sources: Molchanov, Ashukha and Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017 (arXiv
1701.05369), sections 3 and 4; the constants and the schedule are those of the Model Zoos' sparsified twins (Schürholt
et al., NeurIPS 2022).
"""

from __future__ import annotations

import torch

from zoobench.generators.twin_networks import Noise, TwinNetwork, pieces_of
from zoobench.layers import TensorSpec

#: Where the logarithm of each weight's variance starts.
INITIAL_LOG_VARIANCE = -10.0

#: Weights are dropped from this log alpha on: a variance of twenty times their square.
LOG_ALPHA_DROPPED = 3.0

#: Log alpha stays within these bounds, by kind of layer.
LOG_ALPHA_BOUNDS = {"conv": 8.0, "linear": 10.0}

#: Of the approximation of the Kullback-Leibler divergence (arXiv 1701.05369, equation 14).
_K1, _K2, _K3 = 0.63576, 1.8732, 1.48695

_TINY = 1e-15


class VariationalDropout:
    """The arithmetic of variational dropout for many models at once.

    A model's parameters are its weight vector and, behind it, the logarithm of a variance for each weight of a layer.
    ``alpha`` is the variance over the weight squared.

    Parameters
    ----------
    network : TwinNetwork
        The networks.
    kl_weight : float
        What the divergence is multiplied with in the last epoch.
    n_epochs : int
        Epochs over which that weight is reached, linearly.
    variant : {"standard", "published"}
        ``"published"`` treats the biases of convolutions like weights, as the code of the published twins does: they
        have a variance of their own, add to that of the output, and may be dropped; and weight decay acts on the
        logarithms of variances as on everything that is trained, pulling each variance towards 1.
    """

    def __init__(self, network: TwinNetwork, *, kl_weight: float, n_epochs: int, variant: str) -> None:
        self.network, self.kl_weight, self.n_epochs = network, kl_weight, n_epochs
        self.n_weights = network.layout.n_weights
        #: Each layer's weight (and bias), which have a variance each.
        self._noisy: list[list[TensorSpec]] = []
        bounds: list[torch.Tensor] = []
        for layer in network.layers:
            self._noisy.append([layer.weight])
            if variant == "published" and layer.kind == "conv" and layer.bias is not None:
                self._noisy[-1].append(layer.bias)
            bounds += [torch.full((tensor.size,), LOG_ALPHA_BOUNDS[layer.kind]) for tensor in self._noisy[-1]]
        self._bounds = torch.cat(bounds)
        self.decayed = torch.cat([network.trained, torch.full((len(self._bounds),), variant == "published")])

    def start(self, weights: torch.Tensor) -> torch.Tensor:
        """Parameters of shape (n_models, n_parameters) of networks with these weights."""
        self._bounds = self._bounds.to(weights.device)
        logs = weights.new_full((len(weights), len(self._bounds)), INITIAL_LOG_VARIANCE)
        return torch.cat([weights, logs], dim=1)

    def begin_epoch(self, parameters: torch.Tensor, epoch: int) -> None:
        """Nothing but the weight of the divergence changes from epoch to epoch."""
        self._kappa = min(1.0, self.kl_weight * epoch / self.n_epochs)

    def training(
        self, parameters: torch.Tensor, images: torch.Tensor, noise: Noise
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits with noise on each layer's output (local reparametrisation), and each model's weighted divergence."""
        vectors, logs = parameters.split([self.n_weights, len(self._bounds)], dim=1)
        noisy = self._noisy_part(vectors)
        log_alpha = self._log_alpha(logs, noisy)
        variance = log_alpha.exp() * noisy * noisy
        pieces = iter(variance.split([tensor.size for layer in self._noisy for tensor in layer], dim=1))
        variances = [[next(pieces).unflatten(1, tensor.shape) for tensor in layer] for layer in self._noisy]
        divergence = -(_K1 * torch.sigmoid(_K2 + _K3 * log_alpha) - 0.5 * torch.log1p(torch.exp(-log_alpha)) - _K1).sum(
            1
        )
        logits = self.network.training(vectors, images, variances, noise)
        return logits, self._kappa * divergence

    def after_step(self, parameters: torch.Tensor) -> None:
        """Nothing is dropped for good: what is zero in one epoch may come back in the next."""

    def evaluated(self, parameters: torch.Tensor) -> torch.Tensor:
        """The weights of the networks that are evaluated: those that are mostly noise are zero."""
        weights, logs = parameters[:, : self.n_weights].clone(), parameters[:, self.n_weights :]
        dropped = self._log_alpha(logs, self._noisy_part(weights)) >= LOG_ALPHA_DROPPED
        start = 0
        for tensor in (tensor for layer in self._noisy for tensor in layer):
            weights[:, tensor.slice].masked_fill_(dropped[:, start : start + tensor.size], 0.0)
            start += tensor.size
        return weights

    def _noisy_part(self, vectors: torch.Tensor) -> torch.Tensor:
        """The weights that have a variance, in its order."""
        pieces = dict(zip(self.network.layout.tensors, pieces_of(self.network.layout, vectors), strict=True))
        return torch.cat([pieces[tensor] for layer in self._noisy for tensor in layer], dim=1)

    def _log_alpha(self, logs: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        log_alpha = logs - 2 * torch.log(noisy.abs() + _TINY)
        return torch.clamp(log_alpha, -self._bounds, self._bounds)
