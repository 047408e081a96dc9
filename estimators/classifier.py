"""Linear probe for names: logistic regression with a chosen penalty, or the linear layer of the paper's benchmark."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.extmath import softmax
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from zoobench.estimators.adam import AdamSettings, train_linear_layers
from zoobench.estimators.held_out import check_alphas, check_groups, check_validation_data, stratified_folds
from zoobench.estimators.ridge import blocked_product

#: Training rows, their classes, held-out rows and theirs, for each way to hold out.
_Parts = Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]


class LinearProbeClassifier(ClassifierMixin, BaseEstimator):
    """Linear classification that chooses its penalty, or trains as the Model Zoos' benchmark does.

    Parameters
    ----------
    solver : {"lbfgs", "adam"}, default="lbfgs"
        ``"lbfgs"`` is logistic regression with an L2 penalty, to convergence. ``"adam"`` is the benchmark's linear
        layer: Adam with small batches for a fixed number of epochs, nothing chosen on validation data [1]_.
    alphas : sequence of positive float, default=(100.0, 10.0, 1.0, 0.1, 0.01)
        Penalties to choose from with ``"lbfgs"``, each the inverse of scikit-learn's ``C``; of equal accuracies the
        first wins, so the strongest should come first.
    max_iter : int, default=1000
        Most iterations of ``"lbfgs"``. A probe on unscaled features may need more than are worth taking.
    lr : float, default=1e-4
        Learning rate of ``"adam"``.
    weight_decay : float, default=1e-6
        Weight decay of ``"adam"``, as torch defines it.
    batch_size : int, default=10
        Rows a step of ``"adam"``.
    max_epochs : int, default=50
        Epochs of ``"adam"``.
    random_state : int, RandomState instance or None, default=42
        Initialisation and order of rows of ``"adam"``; 42 is the benchmark's seed.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    coef_ : ndarray of shape (n_classes, n_features), or (1, n_features) for two classes with ``"lbfgs"``
        Coefficients.
    intercept_ : ndarray of shape (n_classes,) or (1,)
        Intercepts.
    alpha_ : float
        The chosen penalty; only with ``"lbfgs"``.
    alpha_scores_ : ndarray of shape (n_alphas,)
        Accuracy of each penalty on what was held out; NaN if nothing could be. Only with ``"lbfgs"``.
    n_iter_ : int or ndarray
        Iterations of ``"lbfgs"``, or epochs of ``"adam"``.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    LinearProbeRegressor : For properties that are numbers.

    Notes
    -----
    With ``"lbfgs"`` the penalty is the one with the best accuracy on

    1. validation data, if ``X_val`` and ``y_val`` are given;
    2. else five folds of groups, if ``groups`` is given;
    3. else five folds of rows. That is honest only if rows are independent, and states of one network are not.

    Folds are the same at every call. ``"adam"`` chooses nothing, so it ignores both; it needs torch, for the
    benchmark's own random numbers.

    References
    ----------
    .. [1] Schürholt, K., et al., "Model Zoos: A Dataset of Diverse Populations of Neural Network Models", NeurIPS
       2022, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from zoobench.estimators import LinearProbeClassifier
    >>> X = np.random.default_rng(0).normal(size=(60, 5))
    >>> y = np.where(X[:, 0] > 0, "tanh", "relu")
    >>> probe = LinearProbeClassifier().fit(X[:40], y[:40], X_val=X[40:50], y_val=y[40:50])
    >>> probe.alpha_, probe.alpha_scores_.tolist()
    (1.0, [0.5, 0.9, 1.0, 1.0, 1.0])
    >>> probe.score(X[50:], y[50:])
    0.9
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "solver": [StrOptions({"lbfgs", "adam"})],
        "alphas": ["array-like"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        solver: str = "lbfgs",
        *,
        alphas: Sequence[float] = (100.0, 10.0, 1.0, 0.1, 0.01),
        max_iter: int = 1000,
        lr: float = 1e-4,
        weight_decay: float = 1e-6,
        batch_size: int = 10,
        max_epochs: int = 50,
        random_state: Any = 42,
    ) -> None:
        self.solver = solver
        self.alphas = alphas
        self.max_iter = max_iter
        self.lr = lr
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, *, groups: Any = None, X_val: Any = None, y_val: Any = None) -> LinearProbeClassifier:
        """Choose the penalty and fit.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,)
            Classes.
        groups : array-like of shape (n_samples,), optional
            Model of each row; see Notes.
        X_val, y_val : array-like, optional
            Validation data, to choose the penalty by. Nothing is fitted on it.

        Returns
        -------
        LinearProbeClassifier
            Itself.

        Raises
        ------
        ValueError
            If there are fewer than two classes, a penalty is not positive, or one of ``X_val`` and ``y_val`` is
            missing.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has only one class ({self.classes_[0]}), but a classifier needs at least two")
        alphas = check_alphas(self.alphas)
        validation = check_validation_data(self, X_val, y_val)
        groups = None if validation else check_groups(groups, len(X))
        if self.solver == "adam":
            self._fit_adam(X, codes)
            return self
        if validation:
            held_out: _Parts = [(X, codes, validation[0], validation_codes(validation[1], self.classes_))]
        else:
            fold = stratified_folds(codes, groups)
            parts = [(fold != number, fold == number) for number in range(fold.max() + 1)]
            held_out = ((X[train], codes[train], X[held], codes[held]) for train, held in parts)
        self._fit_lbfgs(X, codes, alphas, held_out)
        return self

    def _fit_adam(self, X: np.ndarray, codes: np.ndarray) -> None:
        settings = AdamSettings(self.lr, self.weight_decay, self.batch_size, self.max_epochs)
        # The benchmark's seed reaches torch as it is; a RandomState gives a seed of its own.
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        X = np.asarray(X, dtype=np.float32)
        [(self.coef_, self.intercept_)] = train_linear_layers(X, [codes], [len(self.classes_)], int(seed), settings)
        self.n_iter_ = self.max_epochs

    def _fit_lbfgs(self, X: np.ndarray, codes: np.ndarray, alphas: np.ndarray, held_out: _Parts) -> None:
        right, n_held = np.zeros(len(alphas)), 0
        for X_train, train, X_held, held in held_out:
            if len(np.unique(train)) < 2:
                continue  # nothing to learn from: every penalty is as good
            n_held += len(held)
            for number, model in enumerate(self._path(X_train, train, alphas)):
                right[number] += (model.predict(X_held) == held).sum()
        self.alpha_ = float(alphas[right.argmax()])
        self.alpha_scores_ = right / n_held if n_held else np.full(len(alphas), np.nan)
        final = next(self._path(X, codes, np.array([self.alpha_])))
        self.coef_, self.intercept_ = final.coef_, final.intercept_
        self.n_iter_ = final.n_iter_

    def _path(self, X: np.ndarray, codes: np.ndarray, alphas: np.ndarray) -> Iterator[LogisticRegression]:
        """Regressions from the first penalty to the last, each from where the one before ended."""
        model = LogisticRegression(max_iter=self.max_iter, warm_start=True)
        for alpha in alphas:
            model.set_params(C=1.0 / alpha)
            with warnings.catch_warnings():
                # max_iter is a bound on what a probe may cost; n_iter_ tells whether it was met.
                warnings.simplefilter("ignore", ConvergenceWarning)
                yield model.fit(X, codes)

    def decision_function(self, X: Any) -> np.ndarray:
        """Scores before the softmax.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            What to classify.

        Returns
        -------
        ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes: that of the second over the first
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        scores = blocked_product(X, self.coef_.T.astype(np.float64)) + self.intercept_
        if len(self.classes_) > 2:
            return scores
        return scores.ravel() if scores.shape[1] == 1 else scores[:, 1] - scores[:, 0]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            What to classify.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.column_stack([np.zeros_like(scores), scores])
        probabilities: np.ndarray = softmax(scores)
        return probabilities

    def predict(self, X: Any) -> np.ndarray:
        """Predict the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            What to classify.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        scores = self.decision_function(X)
        codes = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        predicted: np.ndarray = self.classes_[codes]
        return predicted


def codes_of(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Number of each class.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Classes.
    classes : ndarray of shape (n_classes,)
        The known ones, sorted.

    Returns
    -------
    ndarray of int, shape (n_samples,)
        -1 for a class that is not known: no prediction can be right about it.
    """
    if not len(classes):
        return np.full(len(y), -1)
    places = np.minimum(np.searchsorted(classes, y), len(classes) - 1)
    return np.where(classes[places] == y, places, -1)


def validation_codes(y_val: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Number of each class of validation data, which may stand in a column, as y may.

    Parameters
    ----------
    y_val : ndarray of shape (n_samples,) or (n_samples, 1)
        Classes.
    classes : ndarray of shape (n_classes,)
        The known ones, sorted.

    Returns
    -------
    ndarray of int, shape (n_samples,)
        As of :func:`codes_of`.

    Raises
    ------
    ValueError
        If there is more than one column.
    """
    if y_val.ndim > 1 and y_val.shape[1:] != (1,):
        raise ValueError(f"y_val must have one class a row, but its shape is {y_val.shape}; give a 1-D array")
    return codes_of(column_or_1d(y_val, warn=True), classes)
