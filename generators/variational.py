"""Sparsification by variational dropout: each weight learns its own noise, and what is noise alone is dropped.

Sources: Molchanov, Ashukha and Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017 (arXiv
1701.05369), sections 3 and 4; the constants and the schedule are those of the Model Zoos' sparsified twins (Schürholt
et al., NeurIPS 2022).
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from zoobench.generators.chains import Chain
from zoobench.generators.noisy_ops import conv2d_moments
from zoobench.generators.stacked_ops import linear

#: Where the logarithm of each weight's variance starts.
INITIAL_LOG_VARIANCE = -10.0

#: Weights are dropped from this log alpha on: a variance of twenty times their square.
LOG_ALPHA_DROPPED = 3.0

#: Log alpha stays within these bounds, by kind of layer.
LOG_ALPHA_BOUNDS = {"conv2d": 8.0, "linear": 10.0}

#: Of the approximation of the Kullback-Leibler divergence (arXiv 1701.05369, equation 14).
_K1, _K2, _K3 = 0.63576, 1.8732, 1.48695

_TINY = 1e-15

#: Gives standard normal noise of a shape.
Noise = Callable[[torch.Size], torch.Tensor]
Drop = Callable[[int, torch.Tensor], torch.Tensor]


class VariationalDropout:
    """The arithmetic of variational dropout for many models at once.

    A model's parameters are its weight vector and, behind it, the logarithm of a variance for each weight of a layer.
    ``alpha`` is the variance over the weight squared.

    Parameters
    ----------
    chain : Chain
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

    def __init__(self, chain: Chain, *, kl_weight: float, n_epochs: int, variant: str) -> None:
        self.chain, self.kl_weight, self.n_epochs = chain, kl_weight, n_epochs
        self.n_weights = chain.layout.n_weights
        columns: list[torch.Tensor] = []
        bounds: list[torch.Tensor] = []
        self._places: list[list[slice]] = []  # of each layer's weight (and bias) among the columns
        start = 0
        for layer in chain.layout.layers:
            noisy = layer.tensors if variant == "published" and layer.kind == "conv2d" else layer.tensors[:1]
            self._places.append([])
            for tensor in noisy:
                columns.append(torch.arange(tensor.slice.start, tensor.slice.stop))
                bounds.append(torch.full((tensor.size,), LOG_ALPHA_BOUNDS[layer.kind]))
                self._places[-1].append(slice(start, start + tensor.size))
                start += tensor.size
        self._columns, self._bounds = torch.cat(columns), torch.cat(bounds)
        self.n_decayed = self.n_weights + (len(self._columns) if variant == "published" else 0)

    def start(self, weights: torch.Tensor) -> torch.Tensor:
        """Parameters of shape (n_models, n_parameters) of networks with these weights."""
        self._columns, self._bounds = self._columns.to(weights.device), self._bounds.to(weights.device)
        logs = weights.new_full((len(weights), len(self._columns)), INITIAL_LOG_VARIANCE)
        return torch.cat([weights, logs], dim=1)

    def begin_epoch(self, parameters: torch.Tensor, epoch: int) -> None:
        """Nothing but the weight of the divergence changes from epoch to epoch."""
        self._kappa = min(1.0, self.kl_weight * epoch / self.n_epochs)

    def training(
        self, parameters: torch.Tensor, images: torch.Tensor, noise: Noise, drop: Drop | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits with noise on each layer's output (local reparametrisation), and each model's weighted divergence."""
        tensors = self.chain.tensors(parameters[:, : self.n_weights])
        noisy = parameters[:, self._columns]
        log_alpha = self._log_alpha(parameters, noisy)
        variance = log_alpha.exp() * noisy * noisy

        def layer(number: int, values: torch.Tensor) -> torch.Tensor:
            weight, bias = tensors[number]
            of_weight, *of_bias = (variance[:, place] for place in self._places[number])
            of_weight = of_weight.view_as(weight)
            if weight.ndim == 5:
                mean, squares = conv2d_moments(values, weight, of_weight, stride=self.chain.stride)
                bias, of_bias = bias[:, None, :, None, None], [extra[:, None, :, None, None] for extra in of_bias]
            else:
                mean, squares = linear(values, weight), linear(values * values, of_weight)
                bias = bias[:, None]
            squares = squares + sum(of_bias, torch.tensor(_TINY, device=squares.device))
            return torch.addcmul(mean + bias, squares.sqrt(), noise(mean.shape))

        divergence = -(_K1 * torch.sigmoid(_K2 + _K3 * log_alpha) - 0.5 * torch.log1p(torch.exp(-log_alpha)) - _K1).sum(
            1
        )
        return self.chain.run(images, layer, drop), self._kappa * divergence

    def after_step(self, parameters: torch.Tensor) -> None:
        """Nothing is dropped for good: what is zero in one epoch may come back in the next."""

    def evaluated(self, parameters: torch.Tensor) -> torch.Tensor:
        """The weights of the networks that are evaluated: those that are mostly noise are zero."""
        weights = parameters[:, : self.n_weights].clone()
        noisy = weights[:, self._columns]
        log_alpha = self._log_alpha(parameters, noisy)
        weights[:, self._columns] = torch.where(log_alpha >= LOG_ALPHA_DROPPED, torch.zeros_like(noisy), noisy)
        return weights

    def _log_alpha(self, parameters: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
        log_alpha = parameters[:, self.n_weights :] - 2 * torch.log(noisy.abs() + _TINY)
        return torch.clamp(log_alpha, -self._bounds, self._bounds)
