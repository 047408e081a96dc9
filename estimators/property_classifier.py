"""Names that a network predicts from features of networks: StatNN, and perceptrons on anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import Tensor
from torch.nn import functional

from zoobench.estimators.classifier import validation_codes
from zoobench.estimators.held_out import check_groups, check_validation_data
from zoobench.estimators.mlp import BasePropertyNetwork, OutputLoss
from zoobench.estimators.torch_training import resolve_device, seed_of
from zoobench.layout import WeightLayout

#: What codes_of says of a class that training data do not have.
_UNKNOWN = -1


class PropertyClassifier(ClassifierMixin, BasePropertyNetwork):
    """Multi-layer perceptron that tells a property of networks, such as their activation, from weights or features.

    Features are standardised inside, by the training rows. Training stops when the cross entropy of held-out data no
    longer falls, and the best epoch is kept. What is held out is

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
          of 512, at most 300 epochs: the published network [1]_, with a softmax where that has a sigmoid.
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
    max_epochs : int, default=None
        Passes over the training rows, at most; with ``"mlp"`` and ``"statnn"`` the length of the cycle of learning
        rates.
    validation_fraction : float, default=0.15
        Share of the groups, or rows, that are held out where there are no validation data.
    n_iter_no_change : int or None, default=40
        Stop after that many epochs without a lower loss on what is held out. None trains for ``max_epochs`` and holds
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
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    coefs_ : list of ndarray of shape (n_in, n_out), float32
        Weights of each layer.
    intercepts_ : list of ndarray of shape (n_out,), float32
        Biases of each layer.
    feature_centre_, feature_scale_ : ndarray of float64
        Median and interquartile range of the features.
    history_ : dict of list of float
        ``"loss"`` and ``"validation_loss"`` of each epoch: mean cross entropies.
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
    PropertyRegressor : For properties that are numbers.
    LinearProbeClassifier : The linear one.

    Notes
    -----
    Training is in float32, on one thread of the CPU: the same result on any number of cores, and faster for networks
    of this size. Probabilities are computed in float64. All training features lie in memory, in float32.

    References
    ----------
    .. [1] Unterthiner, T., et al., "Predicting Neural Network Accuracy from Weights", arXiv:2002.11448, section 4.
    .. [2] Zhou, A., et al., "Permutation Equivariant Neural Functionals", arXiv:2302.14040, section 4.
    .. [3] Smith, L. and Topin, N., "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning
       Rates", arXiv:1708.07120.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators import PropertyClassifier
    >>> spread = np.linspace(0.1, 0.9, 120)
    >>> X = np.random.default_rng(0).normal(size=(120, 2464)) * spread[:, None]
    >>> y = np.where(spread > 0.5, "uniform", "kaiming_normal")
    >>> model = PropertyClassifier("statnn", layout="cnn_s", max_epochs=20).fit(X[::2], y[::2])
    >>> bool(model.score(X[1::2], y[1::2]) > 0.9)
    True
    """

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
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, *, groups: Any = None, X_val: Any = None, y_val: Any = None) -> PropertyClassifier:
        """Train on X and y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, or weights with ``"statnn"``.
        y : array-like of shape (n_samples,)
            Classes.
        groups : array-like of shape (n_samples,), optional
            Network that each row belongs to. Not looked at if validation data is given.
        X_val : array-like of shape (n_validation, n_features), optional
            Features of the validation data.
        y_val : array-like of shape (n_validation,), optional
            Classes of the validation data. Rows of a class that y does not have are not looked at.

        Returns
        -------
        PropertyClassifier
            Itself.

        Raises
        ------
        ValueError
            If there are fewer than two classes, ``X_val`` comes without ``y_val`` or the other way round, shapes do not
            fit, ``y_val`` has none of y's classes, all rows are in one group, or training diverges.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has only one class ({self.classes_[0]}), but a classifier needs at least two")
        validation = check_validation_data(self, X_val, y_val)
        groups = check_groups(groups, len(X)) if validation is None else None
        device, seed = resolve_device(self.device), seed_of(self.random_state)
        rows = np.arange(len(X))
        held_out = None
        if validation is not None:
            watched = validation_codes(validation[1], self.classes_)
            if (watched == _UNKNOWN).all():
                raise ValueError(
                    f"y_val has none of the classes of y ({_shown(self.classes_)}) but {_shown(validation[1])}: there "
                    "is nothing to choose an epoch by; give validation data of the same property, or groups instead"
                )
            held_out = validation[0], _cross_entropy(watched, device)
        split = self._split(rows, groups, seed) if held_out is None else (rows, rows[:0])
        self._train(X, len(self.classes_), split, _cross_entropy(codes, device), held_out, seed=seed, device=device)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, or weights with ``"statnn"``.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), float64
        """
        probabilities: np.ndarray = softmax(self._outputs(X), axis=1)
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Predict the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features, or weights with ``"statnn"``.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        outputs = self._outputs(X)
        predicted: np.ndarray = self.classes_[outputs.argmax(axis=1)]
        return predicted


def _shown(classes: np.ndarray) -> str:
    names = [str(name) for name in np.unique(classes)]
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _cross_entropy(codes: np.ndarray, device: str) -> OutputLoss:
    """Mean cross entropy of rows by their number, those of no known class left out."""
    classes = torch.from_numpy(codes.astype(np.int64)).to(device)

    def loss(outputs: Tensor, numbers: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, classes[numbers], ignore_index=_UNKNOWN)

    return loss
