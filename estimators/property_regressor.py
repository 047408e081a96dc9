"""Numbers that a network predicts from features of networks: StatNN, and perceptrons on anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import MultiOutputMixin, _fit_context
from torch import Tensor

from zoobench.estimators.held_out import check_groups, check_validation_data
from zoobench.estimators.mlp import PRESETS, BasePropertyNetwork, OutputLoss
from zoobench.estimators.targets import Bounds, KnownTargetsMixin, check_features_and_targets, check_validation_targets
from zoobench.estimators.torch_training import resolve_device, seed_of
from zoobench.layout import WeightLayout


class PropertyRegressor(KnownTargetsMixin, MultiOutputMixin, BasePropertyNetwork):
    """Multi-layer perceptron that predicts properties of networks from their weights or from features of them.

    Features are standardised inside, by the training rows; targets too, so that several count alike. A target that is
    NaN is left out, property by property. Training stops when the mean squared error on held-out data no longer falls,
    and the best epoch is kept. What is held out is

    1. validation data, if ``X_val`` and ``y_val`` are given;
    2. else a share of the groups, if ``groups`` is given. States of one network are similar, so a zoo's ``groups``
       should be given;
    3. else a share of the rows. With several states of one network this stops too late.

    Parameters
    ----------
    preset : {"mlp", "statnn", "unterthiner"}, default="mlp"
        What the parameters are that are None.

        - ``"mlp"``: two hidden layers of 256 units, dropout 0.1, AdamW with weight decay 1e-4, batches of 128,
          and 40 epochs of one cycle of learning rates, of which 3e-3 is the highest [3]_.
        - ``"statnn"``: the same on statistics of each layer, which are computed inside: X are weights. Mean, variance
          and percentiles 0, 25, 50, 75 and 100 of weights and biases, as StatNN takes them [2]_.
        - ``"unterthiner"``: four hidden layers of 301 units, dropout 0.107, Adam with learning rate 2.33e-3, batches
          of 512, at most 300 epochs, and a sigmoid as output: targets lie between 0 and 1 unless ``bounds`` says
          otherwise [1]_.
    layout : WeightLayout, str or None, default=None
        With ``"statnn"``, which columns of X belong to which layer: a layout, or the name of an architecture. None
        takes all columns as one layer that is all weight.
    hidden_layer_sizes : sequence of int, default=None
        Units of each hidden layer, with ReLU.
    dropout : float, default=None
        Share of hidden units that are zeroed while training.
    lr : float, default=None
        Learning rate; with ``"mlp"`` and ``"statnn"`` the highest of the cycle.
    weight_decay : float, default=None
        Weight decay of AdamW.
    batch_size : int, default=None
        Rows a step.
    bounds : None, pair of float, or sequence with one of both for each target, default=None
        A target between bounds, such as an accuracy with ``(0, 1)``, is predicted through a sigmoid, so that no
        prediction is outside. The loss stays the squared error of the target itself.
    max_epochs : int, default=None
        Passes over the training rows, at most; with ``"mlp"`` and ``"statnn"`` the length of the cycle of learning
        rates.
    validation_fraction : float, default=0.15
        Share of the groups, or rows, that are held out where there are no validation data.
    n_iter_no_change : int or None, default=40
        Stop after that many epochs without a lower error on what is held out. None trains for ``max_epochs`` and holds
        nothing out; validation data then still choose the best epoch.
    device : str, default="auto"
        Where to train: ``"cpu"``, ``"cuda"``, or ``"auto"`` for CUDA where there is one. Predictions are computed on
        the CPU.
    random_state : int, RandomState instance or None, default=0
        Initial weights, order of rows, dropout, and which groups or rows are held out.
    verbose : int, default=0
        Above zero, a progress bar.

    Attributes
    ----------
    coefs_ : list of ndarray of shape (n_in, n_out), float32
        Weights of each layer.
    intercepts_ : list of ndarray of shape (n_out,), float32
        Biases of each layer.
    feature_centre_, feature_scale_ : ndarray of float64
        Median and interquartile range of the features.
    target_shift_, target_scale_ : ndarray of shape (n_targets,), float64
        What outputs are scaled by: mean and standard deviation of a target; of a bounded one the mean's logit, and 1.
    bounds_ : Bounds
        The bounds of each target.
    history_ : dict of list of float
        ``"loss"`` and ``"validation_loss"`` of each epoch: mean squared errors of standardised targets.
    n_iter_ : int
        Epochs that were trained.
    layout_ : WeightLayout or None
        The resolved layout, with ``"statnn"``.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str
        Names of the columns of X, where it has names.

    See Also
    --------
    PropertyClassifier : For properties that are names.
    LinearProbeRegressor : The linear one.

    Notes
    -----
    Training is in float32, on one thread of the CPU: the same result on any number of cores, and faster for networks
    of this size. Predictions are computed in float64. All training features lie in memory, in float32.

    References
    ----------
    .. [1] Unterthiner, T., et al., "Predicting Neural Network Accuracy from Weights", arXiv:2002.11448, section 4.
    .. [2] Zhou, A., et al., "Permutation Equivariant Neural Functionals", arXiv:2302.14040, section 4.
    .. [3] Smith, L. and Topin, N., "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
       Rates", arXiv:1708.07120.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators import PropertyRegressor
    >>> spread = np.linspace(0.1, 0.9, 120)
    >>> X = np.random.default_rng(0).normal(size=(120, 2464)) * spread[:, None]
    >>> model = PropertyRegressor("statnn", layout="cnn_s", bounds=(0, 1), max_epochs=20)
    >>> model = model.fit(X[::2], spread[::2], X_val=X[1::4], y_val=spread[1::4])
    >>> bool(model.score(X[3::4], spread[3::4]) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BasePropertyNetwork._parameter_constraints,
        "bounds": ["array-like", None],
    }

    def __init__(
        self,
        preset: str = "mlp",
        *,
        layout: WeightLayout | str | None = None,
        hidden_layer_sizes: Sequence[int] | None = None,
        dropout: float | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        bounds: Any = None,
        max_epochs: int | None = None,
        validation_fraction: float = 0.15,
        n_iter_no_change: int | None = 40,
        device: str = "auto",
        random_state: Any = 0,
        verbose: int = 0,
    ) -> None:
        self.preset = preset
        self.layout = layout
        self.hidden_layer_sizes = hidden_layer_sizes
        self.dropout = dropout
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.bounds = bounds
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, *, groups: Any = None, X_val: Any = None, y_val: Any = None) -> PropertyRegressor:
        """Train on X and y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, or weights with ``"statnn"``.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets; NaN where one is not known.
        groups : array-like of shape (n_samples,), optional
            Network that each row belongs to. Not looked at if validation data is given.
        X_val : array-like of shape (n_validation, n_features), optional
            Features of the validation data.
        y_val : array-like of shape (n_validation,) or (n_validation, n_targets), optional
            Targets of the validation data.

        Returns
        -------
        PropertyRegressor
            Itself.

        Raises
        ------
        ValueError
            If a target is known in fewer than two rows or lies outside its bounds, ``X_val`` comes without ``y_val``
            or the other way round, shapes do not fit, all rows are in one group, or training diverges.
        """
        X, Y, single = check_features_and_targets(self, X, y)
        validation = check_validation_data(self, X_val, y_val, allow_nan=True)
        groups = check_groups(groups, len(X)) if validation is None else None
        device, seed = resolve_device(self.device), seed_of(self.random_state)
        unit_interval = self.bounds is None and PRESETS[self.preset].sigmoid
        self.bounds_ = Bounds((0.0, 1.0) if unit_interval else self.bounds, Y)
        usable = np.flatnonzero(~np.isnan(Y).all(axis=1))
        if validation is None:
            rows = self._split(usable, groups, seed)
            error = self._error(Y, Y, device)
            self._train(X, Y.shape[1], rows, error, seed=seed, device=device)
        else:
            watched = check_validation_targets(validation[1], len(validation[0]), Y.shape[1])
            rows = usable, usable[:0]
            error = self._error(Y, Y, device)
            held_out = validation[0], self._error(Y, watched, device)
            self._train(X, Y.shape[1], rows, error, held_out, seed=seed, device=device)
        self._single = single
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predicted targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, or weights with ``"statnn"``.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_targets), float64
        """
        outputs = self._outputs(X)
        predicted = self.bounds_.narrow(outputs * self.target_scale_ + self.target_shift_)
        return predicted[:, 0] if self._single else predicted

    def _error(self, Y: np.ndarray, targets: np.ndarray, device: str) -> OutputLoss:
        """Mean squared error of the targets that are known, each in units of its spread in Y."""
        mean, spread = np.nanmean(Y, axis=0), np.nanstd(Y, axis=0)
        spread[spread <= 1e-12 * np.abs(mean)] = 1.0
        bounds, columns = self.bounds_, self.bounds_.columns
        self.target_shift_, self.target_scale_ = bounds.widen(mean), spread.copy()
        self.target_scale_[columns] = 1.0
        # In float64 first: of an epoch or a loss with a large mean, float32 would leave few digits.
        known = torch.from_numpy(~np.isnan(targets)).to(device)
        wanted = _on(np.nan_to_num((targets - mean) / spread), device)
        logits = _on(self.target_shift_[columns], device)
        low = _on((bounds.low - mean[columns]) / spread[columns], device)
        width = _on(bounds.width / spread[columns], device)
        bounded = torch.from_numpy(columns).to(device)

        def loss(outputs: Tensor, numbers: Tensor) -> Tensor:
            if len(bounded):
                inside = low + width * torch.sigmoid(outputs[:, bounded] + logits)
                outputs = outputs.index_copy(1, bounded, inside)
            is_known = known[numbers]
            errors = (outputs - wanted[numbers]) * is_known
            return errors.square().sum() / is_known.sum().clamp(min=1)

        return loss


def _on(values: np.ndarray, device: str) -> Tensor:
    return torch.from_numpy(values.astype(np.float32)).to(device)
