"""An autoencoder of weight vectors: two perceptrons, mirror images of each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar

import torch
from sklearn.base import _fit_context
from torch import nn

from zoobench.estimators.autoencoding import TRAINING_CONSTRAINTS, BaseAutoencoder, ViewLoss
from zoobench.layout import WeightLayout


class WeightAutoencoder(BaseAutoencoder):
    """Multi-layer perceptron that compresses weight vectors into a few numbers and restores them.

    It sees a vector as it lies there: neither neurons nor layers. For a zoo whose neurons are in one order, as those of
    :class:`PermutationAligner` are, it is the plain nonlinear counterpart of :class:`WeightPCA`; what knows neurons is
    :class:`HyperRepresentation`.

    Parameters
    ----------
    layout : WeightLayout, str or None, default=None
        Which columns of X belong to which layer, for the units of the weights: a layout, or the name of an
        architecture. None takes all columns as one layer.
    latent_dim : int, default=64
        Length of the latent vector.
    hidden_layer_sizes : sequence of int, default=(512,)
        Units of the encoder's hidden layers, with GELU; the decoder has the same in reverse.
    layer_norm_loss : bool, default=True
        Measure weights, and so errors, in units of the standard deviation of their layer over the training zoo [1]_.
        Without it all weights have the same unit, and layers with large weights count more.
    max_epochs : int, default=200
        Passes over the training rows, at most.
    batch_size : int, default=64
        Rows a step.
    lr : float, default=1e-3
        Learning rate of Adam; with a schedule the highest.
    weight_decay : float, default=0.0
        Weight decay of Adam, as torch defines it.
    schedule : {"onecycle", "cosine"} or None, default="onecycle"
        Learning rate over the steps of ``max_epochs``: up and down in one cycle, down along a cosine, or constant.
    validation_fraction : float, default=0.1
        Share of the groups, or rows, that are held out where there is no validation data.
    n_iter_no_change : int or None, default=30
        Stop after that many epochs without a lower error on what is held out. None trains for ``max_epochs`` and holds
        nothing out; validation data then still chooses the best epoch.
    device : str, default="auto"
        Where to compute: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA where there is one.
    random_state : int, RandomState instance or None, default=0
        Initial weights, order of rows, and which groups or rows are held out.
    verbose : int, default=0
        Above zero, a progress bar of epochs on standard error.

    Attributes
    ----------
    weights_ : dict of ndarray
        Parameters of both networks by name: ``"encoder.0.weight"``, ...
    shift_, scale_ : ndarray of shape (n_weights,), float64
        What is taken from each weight, and what it is divided by, before the networks see it.
    mean_ : ndarray of shape (n_weights,), float64
        Mean of the training rows, which :meth:`score` compares with.
    history_ : dict of list of float
        ``"loss"`` of each epoch, and ``"validation_loss"`` where there is something held out: mean squared errors.
    n_iter_ : int
        Epochs that were trained.
    layout_ : WeightLayout
        The layout that was resolved for X.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str
        Names of the columns of X, where it has names.

    See Also
    --------
    HyperRepresentation : Transformer over neurons.
    WeightPCA : The linear one.

    Notes
    -----
    Training is in float32. float32 stays float32; of float64, latents and weights are computed in float64. A memory map
    is read in blocks, and all training rows lie in memory once, in float32.

    References
    ----------
    .. [1] Schürholt, K., et al., "Hyper-Representations as Generative Models", NeurIPS 2022, arXiv:2209.14733.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.estimators import WeightAutoencoder
    >>> zoo = fetch_zoo("digits_cnn_s", epochs="last")
    >>> train, val = zoo.select(subset="train"), zoo.select(subset="val")
    >>> model = WeightAutoencoder("cnn_s", latent_dim=16, max_epochs=3).fit(train.data, X_val=val.data)
    >>> latents = model.transform(val.data)
    >>> latents.shape, model.inverse_transform(latents).shape
    ((30, 16), (30, 2464))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TRAINING_CONSTRAINTS,
        "hidden_layer_sizes": ["array-like"],
    }

    def __init__(
        self,
        layout: WeightLayout | str | None = None,
        *,
        latent_dim: int = 64,
        hidden_layer_sizes: Sequence[int] = (512,),
        layer_norm_loss: bool = True,
        max_epochs: int = 200,
        batch_size: int = 64,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: str | None = "onecycle",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = 30,
        device: str = "auto",
        random_state: Any = 0,
        verbose: int = 0,
    ) -> None:
        self.layout = layout
        self.latent_dim = latent_dim
        self.hidden_layer_sizes = hidden_layer_sizes
        self.layer_norm_loss = layer_norm_loss
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, groups: Any = None, X_val: Any = None) -> WeightAutoencoder:
        """Train on X.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors.
        y : None
            Ignored.
        groups : array-like of shape (n_states,), optional
            Network that each row belongs to: what is held out is whole networks. Not looked at if validation data is
            given.
        X_val : array-like of shape (n_validation, n_weights), optional
            Weight vectors of other networks, to stop by and to choose the best epoch by.

        Returns
        -------
        WeightAutoencoder
            Itself.

        Raises
        ------
        ValueError
            If the layout does not fit the number of columns, a size is not a positive integer, all rows are in one
            group, or training diverges.
        """
        self._fit(X, groups, X_val)
        return self

    def _networks(self, layout: WeightLayout) -> nn.ModuleDict:
        sizes = (layout.n_weights, *self.hidden_layer_sizes, self.latent_dim)
        if not all(isinstance(size, Integral) and size > 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be positive integers, not {self.hidden_layer_sizes!r}")
        return nn.ModuleDict({"encoder": _perceptron(sizes), "decoder": _perceptron(sizes[::-1])})

    def _loss(self, networks: nn.ModuleDict, layout: WeightLayout, device: str) -> ViewLoss:
        def loss(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return (networks["decoder"](networks["encoder"](weights)) - weights).square().mean()

        return loss


def _perceptron(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.GELU()]
    return nn.Sequential(*layers[:-1])
