"""The hyper-representation: a transformer autoencoder over neurons, with permuted views and a contrastive loss."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from torch import nn

from zoobench.estimators.autoencoding import TRAINING_CONSTRAINTS, BaseAutoencoder, ViewLoss
from zoobench.estimators.contrastive import ProjectionHead, erased, nt_xent
from zoobench.estimators.symmetry import symmetry_of
from zoobench.estimators.tokens import WeightTokens
from zoobench.estimators.torch_training import Loss
from zoobench.estimators.transformer import TokenDecoder, TokenEncoder
from zoobench.layout import WeightLayout

#: Each token looks at each other one: beyond that many, a batch of weight vectors needs gigabytes.
MAX_TOKENS = 2048

#: What the papers train with, on networks of 2464 weights ("cnn_s") and of 4970 weights ("small_cnn"), for which their
#: share of the contrastive part ranges to 0.85. Layer-wise units are those of arXiv:2209.14733. Sources: appendices of
#: arXiv:2110.15288 and arXiv:2209.14733.
HYPER_REPRESENTATION_PRESETS: dict[str, dict[str, Any]] = {
    name: {
        **sizes,
        "n_heads": 4,
        "compression": "token",
        "contrastive_weight": 0.1,
        "lr": 1e-4,
        "schedule": None,
        "batch_size": 500,
        "n_iter_no_change": None,
    }
    for name, sizes in {
        "cnn_s": {"latent_dim": 700, "d_model": 800, "n_blocks": 2, "d_ff": 900, "max_epochs": 50},
        "small_cnn": {"latent_dim": 1200, "d_model": 512, "n_blocks": 4, "d_ff": 1000, "max_epochs": 25},
    }.items()
}


class HyperRepresentation(BaseAutoencoder):
    """Transformer autoencoder over the neurons of a network, trained on permuted views of it.

    A token is one neuron: its incoming weights and its bias. One linear map a layer takes tokens to a common width,
    learned positions are added, and pre-norm transformer blocks compute a latent vector from them, each number of which
    is between -1 and 1; the decoder mirrors that. Every training step sees other views of each network: its neurons
    change places in a way that does not change its function, and a block of numbers is erased, which the decoder has
    to restore. With a contrastive part, a projection of the latent vector has to tell which two views are of one
    network [1]_.

    Parameters
    ----------
    layout : WeightLayout, str or None, default=None
        Which columns of X belong to which layer: a layout, or the name of an architecture, whose variant is told from
        the number of columns. None takes all columns as one token, which is hardly worth a transformer.
    latent_dim : int, default=512
        Length of the latent vector.
    d_model : int, default=96
        Width of the transformers.
    n_blocks : int, default=1
        Blocks of each transformer.
    n_heads : int, default=4
        Heads of the attention; ``d_model`` is a multiple of it.
    d_ff : int, default=192
        Width of the feed-forward layers.
    compression : {"concat", "token"}, default="concat"
        What the latent vector is a linear map of: all tokens side by side, or one learned token in front of them, as
        in the papers. By attention alone, that one has to learn to tell all others apart, for which short training
        does not suffice.
    contrastive_weight : float, default=0.1
        Share of the contrastive loss (NT-Xent), from 0 to 1; the rest is that of the reconstruction. With 0 there is
        one view a step, in half the time.
    temperature : float, default=0.1
        What cosine similarities are divided by in the contrastive loss.
    permute : bool, default=True
        Permute neurons in every view. Without it, the neurons should be in one order, as :class:`PermutationAligner`
        brings them, and positions tell them apart.
    erase : float, default=0.5
        How probable it is that a rectangle of 2 to 33 % of a view's numbers is erased, tokens being its rows.
    layer_norm_loss : bool, default=True
        Measure weights, and so errors, in units of the standard deviation of their layer over the training zoo, as the
        papers came to do [2]_. Without it all weights have the same unit, and layers with large weights count more:
        good where these are the layers that matter, and fatal where others are lost.
    max_epochs : int, default=100
        Passes over the training rows, at most.
    batch_size : int, default=32
        Rows a step.
    lr : float, default=2e-3
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
        Initial weights, order of rows, views, and which groups or rows are held out.
    verbose : int, default=0
        Above zero, a progress bar of epochs on standard error.

    Attributes
    ----------
    weights_ : dict of ndarray
        Parameters of both networks by name: ``"encoder.positions"``, ...
    shift_, scale_ : ndarray of shape (n_weights,), float64
        What is taken from each weight, and what it is divided by, before the networks see it.
    mean_ : ndarray of shape (n_weights,), float64
        Mean of the training rows, which :meth:`score` compares with.
    history_ : dict of list of float
        ``"loss"`` of each epoch; with a contrastive part ``"reconstruction"`` and ``"contrast"``, whose weighted sum
        it is; and ``"validation_loss"`` where there is something held out: the mean squared error of networks as they
        are, nothing permuted or erased.
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
    WeightAutoencoder : Perceptrons on the vector as it lies there.
    PermutationAligner : Brings neurons into one order.

    Notes
    -----
    Every tensor of a batch normalisation is one token, running statistics included, so that restored networks are
    complete. A token looks at every other one: of networks with more than 2048 neurons, such as ResNet-18, fitting is
    refused.

    Training is in float32. float32 stays float32; of float64, latents and weights are computed in float64. A memory map
    is read in blocks, and all training rows lie in memory once, in float32.

    References
    ----------
    .. [1] Schürholt, K., et al., "Self-Supervised Representation Learning on Neural Network Weights for Model
       Characteristic Prediction", NeurIPS 2021, arXiv:2110.15288.
    .. [2] Schürholt, K., et al., "Hyper-Representations as Generative Models", NeurIPS 2022, arXiv:2209.14733.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.estimators import HyperRepresentation
    >>> zoo = fetch_zoo("digits_cnn_s", epochs="last")
    >>> train, val = zoo.select(subset="train"), zoo.select(subset="val")
    >>> model = HyperRepresentation("cnn_s", latent_dim=16, d_model=16, d_ff=32, max_epochs=2)
    >>> latents = model.fit(train.data, X_val=val.data).transform(val.data)
    >>> latents.shape, model.inverse_transform(latents).shape
    ((30, 16), (30, 2464))
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TRAINING_CONSTRAINTS,
        "d_model": [Interval(Integral, 1, None, closed="left")],
        "n_blocks": [Interval(Integral, 1, None, closed="left")],
        "n_heads": [Interval(Integral, 1, None, closed="left")],
        "d_ff": [Interval(Integral, 1, None, closed="left")],
        "compression": [StrOptions({"token", "concat"})],
        "contrastive_weight": [Interval(Real, 0, 1, closed="both")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "permute": ["boolean"],
        "erase": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        layout: WeightLayout | str | None = None,
        *,
        latent_dim: int = 512,
        d_model: int = 96,
        n_blocks: int = 1,
        n_heads: int = 4,
        d_ff: int = 192,
        compression: str = "concat",
        contrastive_weight: float = 0.1,
        temperature: float = 0.1,
        permute: bool = True,
        erase: float = 0.5,
        layer_norm_loss: bool = True,
        max_epochs: int = 100,
        batch_size: int = 32,
        lr: float = 2e-3,
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
        self.d_model = d_model
        self.n_blocks = n_blocks
        self.n_heads = n_heads
        self.d_ff = d_ff
        self.compression = compression
        self.contrastive_weight = contrastive_weight
        self.temperature = temperature
        self.permute = permute
        self.erase = erase
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
    def fit(self, X: Any, y: Any = None, *, groups: Any = None, X_val: Any = None) -> HyperRepresentation:
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
        HyperRepresentation
            Itself.

        Raises
        ------
        ValueError
            If the layout does not fit the number of columns or has too many neurons, ``d_model`` is no multiple of
            ``n_heads``, all rows are in one group, or training diverges.
        """
        self._fit(X, groups, X_val)
        return self

    @property
    def _reconstructs(self) -> bool:
        return bool(self.contrastive_weight < 1)

    def _networks(self, layout: WeightLayout) -> nn.ModuleDict:
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model must be a multiple of n_heads, but they are {self.d_model} and {self.n_heads}")
        tokens = WeightTokens(layout)
        if tokens.n_tokens > MAX_TOKENS:
            raise ValueError(
                f"{layout!r} has {tokens.n_tokens} neurons, but attention among more than {MAX_TOKENS} tokens does not "
                "fit into memory; leave out layers (WeightLayout.mask), or use WeightPCA, which takes any size"
            )
        sizes = {"d_model": self.d_model, "n_blocks": self.n_blocks, "n_heads": self.n_heads, "d_ff": self.d_ff}
        networks: dict[str, nn.Module] = {
            "encoder": TokenEncoder(tokens, latent_dim=self.latent_dim, compression=self.compression, **sizes),
            "decoder": TokenDecoder(tokens, latent_dim=self.latent_dim, **sizes),
        }
        if self.contrastive_weight:
            networks["head"] = ProjectionHead(self.latent_dim)
        return nn.ModuleDict(networks)

    def _loss(self, networks: nn.ModuleDict, layout: WeightLayout, device: str) -> ViewLoss:
        views = Views(layout, device, permute=self.permute, erase=self.erase)
        weight = self.contrastive_weight
        encoder, decoder = networks["encoder"], networks["decoder"]

        def loss(weights: torch.Tensor, generator: torch.Generator) -> Loss:
            # Without a contrastive part, a second view would be the same again.
            both = weights.repeat(2, 1) if weight else weights
            target, seen = views.draw(both, generator)
            latent = encoder(seen)
            error = (decoder(latent) - target).square().mean()
            if not weight:
                return error
            first, second = networks["head"](latent).chunk(2)
            contrast = nt_xent(first, second, self.temperature)
            return weight * contrast + (1 - weight) * error, {"reconstruction": error, "contrast": contrast}

        return loss


class Views:
    """Random views of weight vectors.

    Parameters
    ----------
    layout : WeightLayout
        Which columns belong to which layer.
    device : str
        Where the weights lie.
    permute : bool
        Whether neurons change places.
    erase : float
        How probable it is that something is erased.
    """

    def __init__(self, layout: WeightLayout, device: str, *, permute: bool, erase: float) -> None:
        symmetry = symmetry_of(layout) if permute else None
        self._symmetry = symmetry if symmetry and symmetry.sizes else None
        self._erase = erase
        tokens = WeightTokens(layout)
        # From the order of the tokens to that of the weight vector.
        places = np.argsort(tokens.order)
        self._rows, self._columns = (torch.from_numpy(where[places]).to(device) for where in tokens.positions())

    def draw(self, weights: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """A view of each state, and the same with numbers erased: what to restore, and from what."""
        if self._symmetry is not None:
            seed = int(torch.randint(2**62, (), generator=generator, device=weights.device))
            drawn = self._symmetry.draw(len(weights), np.random.default_rng(seed))
            columns = torch.from_numpy(self._symmetry.columns(drawn)).to(weights.device)
            weights = weights.gather(1, columns)
        if not self._erase:
            return weights, weights
        gone = erased(self._rows, self._columns, len(weights), self._erase, generator)
        return weights, weights.masked_fill(gone, 0.0)
