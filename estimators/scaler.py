"""Standardising weights layer by layer."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from zoobench.estimators.principal import tiles
from zoobench.layout import WeightLayout, resolve_layout


class LayerScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Subtract each layer's mean and divide by its standard deviation, over all states and weights of the layer.

    All weights of a layer are moved and scaled alike, so that what they are to each other stays, while layers become
    comparable: autoencoders and principal components would otherwise see the layers with the largest weights only.
    SANE standardises its tokens so [1]_.

    Parameters
    ----------
    layout : WeightLayout, str or None, default=None
        Which columns of X belong to which layer: a layout, or the name of an architecture, whose variant is told from
        the number of columns. None takes all columns as one layer.
    per : {"layer", "tensor"}, default="layer"
        What has a mean and a standard deviation of its own. ``"layer"`` takes the weight and the bias of a layer
        together, as SANE does, where the bias is one more column of the weight. ``"tensor"`` keeps them apart, and
        with them the parameters and the running statistics of a batch normalisation, whose sizes have nothing to do
        with each other.

    Attributes
    ----------
    mean_ : ndarray of shape (n_parts,), float64
        Mean of each layer or tensor.
    var_ : ndarray of shape (n_parts,), float64
        Its (population) variance.
    scale_ : ndarray of shape (n_parts,), float64
        What it is divided by: the standard deviation, or 1 where that is zero.
    layout_ : WeightLayout
        The layout that was resolved for X.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str
        Names of the columns of X, where it has names.

    See Also
    --------
    sklearn.preprocessing.StandardScaler : A mean and a standard deviation for each weight.

    Notes
    -----
    X is read in blocks, so that a memory map may be larger than memory. Moments are computed in float64 and merged
    from block to block by the update of Chan, Golub and LeVeque (1983); a layer whose weights are all the same number
    has a variance of exactly zero.

    References
    ----------
    .. [1] Schürholt, K., Mahoney, M. W. and Borth, D., "Towards Scalable and Versatile Weight Space Learning", ICML
       2024, arXiv:2406.09997, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators import LayerScaler
    >>> X = np.random.default_rng(0).normal(0.5, 0.1, size=(20, 2464)).astype(np.float32)
    >>> scaler = LayerScaler("cnn_s").fit(X)
    >>> scaler.mean_.round(2).tolist(), scaler.scale_.round(2).tolist()
    ([0.5, 0.5, 0.5, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1, 0.1])
    >>> scaled = scaler.transform(X)
    >>> bool(np.allclose(scaler.inverse_transform(scaled), X))
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "layout": [WeightLayout, str, None],
        "per": [StrOptions({"layer", "tensor"})],
    }

    def __init__(self, layout: WeightLayout | str | None = None, *, per: str = "layer") -> None:
        self.layout = layout
        self.per = per

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> LayerScaler:
        """Compute means and standard deviations.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors.
        y : None
            Ignored.

        Returns
        -------
        LayerScaler
            Itself.

        Raises
        ------
        ValueError
            If the layout does not fit the number of columns, or a weight is NaN or infinite.
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        self.layout_ = resolve_layout(self.layout, X.shape[1])
        moments = np.array([_moments(X, part) for part in self._parts()])
        self.mean_, self.var_ = moments[:, 0].copy(), moments[:, 1].copy()
        self.scale_ = np.where(self.var_ > 0, np.sqrt(self.var_), 1.0)
        return self

    def _parts(self) -> list[slice]:
        owners = self.layout_.layers if self.per == "layer" else self.layout_.tensors
        return [owner.slice for owner in owners]

    def transform(self, X: Any) -> np.ndarray:
        """Standardise.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            Weight vectors.

        Returns
        -------
        ndarray of shape (n_states, n_weights), of the dtype of X
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        result = np.empty(X.shape, dtype=X.dtype)
        for part, mean, scale in zip(self._parts(), self.mean_, self.scale_, strict=True):
            for block in tiles(X, part):
                # In float64, as a mean that is far from zero would be rounded in float32, and the rest shifted.
                result[block] = (X[block] - mean) / scale
        return result

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Weights from standardised weights.

        Parameters
        ----------
        X : array-like of shape (n_states, n_weights)
            What :meth:`transform` gives, or what a model of such data says.

        Returns
        -------
        ndarray of shape (n_states, n_weights), of the dtype of X

        Raises
        ------
        ValueError
            If the number of columns is not that of the layout.
        """
        check_is_fitted(self)
        X = check_array(X, dtype=[np.float64, np.float32], estimator=self, input_name="X")
        if X.shape[1] != self.layout_.n_weights:
            raise ValueError(f"X has {X.shape[1]} columns, but the layout has {self.layout_.n_weights} weights")
        result = np.empty(X.shape, dtype=X.dtype)
        for part, mean, scale in zip(self._parts(), self.mean_, self.scale_, strict=True):
            for block in tiles(X, part):
                result[block] = X[block] * scale + mean
        return result


def _moments(X: np.ndarray, part: slice) -> tuple[float, float]:
    """Mean and variance of all numbers in some columns, in one pass over them; of no numbers, zeros."""
    if part.start == part.stop:
        return 0.0, 0.0
    # Differences from any one of the numbers: equal numbers have none, whatever rounding does to their mean.
    origin = np.float64(X[0, part.start])
    mean, squares, n_seen = 0.0, 0.0, 0
    for block in tiles(X, part):
        # In C order whatever X is, so that rounding does not tell an array from a frame.
        values = np.subtract(X[block], origin, order="C")
        centre = float(values.mean())
        values -= centre
        shift, n_both = centre - mean, n_seen + values.size
        squares += float(np.vecdot(values, values).sum()) + shift * shift * (n_seen * values.size / n_both)
        mean += shift * (values.size / n_both)
        n_seen = n_both
    return float(origin) + mean, squares / n_seen
