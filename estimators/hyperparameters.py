"""What networks were trained with, as numbers: the inputs of the reference that looks at no weight."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import StrOptions
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted, validate_data

from zoobench.estimators.classifier import codes_of
from zoobench.properties import CANONICAL, HYPERPARAMETERS, IDENTITY

#: Numbers whose order of magnitude matters: as logarithms in front of linear models.
_LOGARITHMIC = ("lr", "weight_decay")


class HyperparameterEncoder(TransformerMixin, BaseEstimator):
    """Hyper-parameters of networks as numeric features.

    On a zoo whose hyper-parameters vary, these alone predict much of what the networks became: no table on such a zoo
    should be without a reference that knows nothing else. Of a zoo's frame of properties only activation, init,
    optimizer, dropout, learning rate and weight decay are taken; never a measured property, the epoch, the seed, the
    model's name or the property to predict. Plain arrays, and frames that have no property of a zoo, are taken as
    they are: every column is a hyper-parameter.

    Parameters
    ----------
    encoding : {"ordinal", "onehot"}, default="ordinal"
        - ``"ordinal"``, for trees: a name becomes its number in alphabetical order, a name that was not seen in ``fit``
          or is missing becomes NaN, and numbers stay as they are. With ``set_output(transform="pandas")`` names come
          as categoricals instead, which gradient boosting recognises as such.
        - ``"onehot"``, for linear models and networks: a column of zeros and ones for each name, all zero for a name
          that was not seen; learning rate and weight decay as decimal logarithms if all of them are positive; a missing
          number becomes the median.
    target : str or None, default=None
        The property to predict, which is left out should it be a hyper-parameter.

    Attributes
    ----------
    columns_ : list of int
        Which columns of X are used.
    categories_ : list of (ndarray of str or None)
        The names of each used column, sorted; None for numbers.
    medians_ : list of float
        The median of each used column; 0 for names.
    least_ : list of (float or None)
        The smallest number of each used column that ``"onehot"`` takes the logarithm of, which no number is to fall
        below; None for the others.
    n_features_in_ : int
        Number of columns of X.
    feature_names_in_ : ndarray of str
        Names of the columns of X, where it has names.

    See Also
    --------
    zoobench.paper_table : Shows the reference row with ``features="hyperparameters"``.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.estimators import HyperparameterEncoder
    >>> zoo = fetch_zoo("digits_cnn_s_hyp_rand", max_abs_weight=5)
    >>> encoder = HyperparameterEncoder().fit(zoo.properties)
    >>> encoder.get_feature_names_out().tolist()
    ['activation', 'init', 'optimizer', 'dropout', 'lr', 'weight_decay']
    >>> HyperparameterEncoder("onehot", target="lr").fit_transform(zoo.properties).shape
    (1118, 12)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "encoding": [StrOptions({"ordinal", "onehot"})],
        "target": [str, None],
    }

    def __init__(self, encoding: str = "ordinal", *, target: str | None = None) -> None:
        self.encoding = encoding
        self.target = target

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> HyperparameterEncoder:
        """Learn which names and numbers there are.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_states, n_columns)
            A zoo's ``properties``, or numbers.
        y : None
            Ignored.

        Returns
        -------
        HyperparameterEncoder
            Itself.

        Raises
        ------
        ValueError
            If X has properties of a zoo, but no hyper-parameter apart from ``target``.
        """
        table = self._table(X, reset=True)
        self.columns_ = self._chosen(table)
        self.categories_, self.medians_, self.least_ = [], [], []
        for column in (table.iloc[:, number] for number in self.columns_):
            numeric = is_numeric_dtype(column)
            known = column.dropna().to_numpy(dtype=np.float64) if numeric else np.empty(0)
            self.categories_.append(None if numeric else np.unique(column.dropna().to_numpy(dtype=object).astype(str)))
            self.medians_.append(float(np.median(known)) if known.size else 0.0)
            logarithmic = column.name in _LOGARITHMIC and known.size and known.min() > 0
            self.least_.append(float(known.min()) if logarithmic else None)
        return self

    def transform(self, X: Any) -> np.ndarray | pd.DataFrame:
        """Features of each state.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_states, n_columns)
            As in ``fit``.

        Returns
        -------
        ndarray of shape (n_states, n_features_out)
            float32 if X is an array of float32, else float64.
        """
        check_is_fitted(self)
        table = self._table(X, reset=False)
        columns = [table.iloc[:, number] for number in self.columns_]
        features = [self._encode(column, place) for place, column in enumerate(columns)]
        if self.encoding == "ordinal" and _get_output_config("transform", self)["dense"] == "pandas":
            for place, names in enumerate(self.categories_):
                if names is not None:
                    codes = np.nan_to_num(features[place][:, 0], nan=-1).astype(np.intp)
                    features[place] = pd.Categorical.from_codes(codes, categories=names)
            parts = [feature if isinstance(feature, pd.Categorical) else feature[:, 0] for feature in features]
            return pd.DataFrame(dict(zip(self.get_feature_names_out(), parts, strict=True)), index=table.index)
        single = all(dtype == np.float32 for dtype in table.dtypes)
        return np.concatenate(features, axis=1).astype(np.float32 if single else np.float64, copy=False)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the columns of X, where X had none in ``fit``.

        Returns
        -------
        ndarray of str
            Such as ``"lr"``, or with ``"onehot"`` ``"activation_tanh"`` and ``"log10_lr"``.
        """
        check_is_fitted(self)
        columns = _check_feature_names_in(self, input_features)[self.columns_]
        found: list[str] = []
        for name, categories, least in zip(columns, self.categories_, self.least_, strict=True):
            if self.encoding == "ordinal" or (categories is None and least is None):
                found.append(name)
            elif categories is None:
                found.append(f"log10_{name}")
            else:
                found += [f"{name}_{category}" for category in categories]
        return np.asarray(found, dtype=object)

    def _encode(self, column: pd.Series, place: int) -> np.ndarray:
        """Features of one column, shape (n_states, n_features)."""
        categories, least = self.categories_[place], self.least_[place]
        if categories is not None:
            codes = np.where(column.isna(), -1, codes_of(column.to_numpy(dtype=object).astype(str), categories))
            if self.encoding == "onehot":
                return codes[:, None] == np.arange(len(categories))
            return np.where(codes < 0, np.nan, codes)[:, None]
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        if self.encoding == "onehot":
            values = np.where(np.isnan(values), self.medians_[place], values)
            values = values if least is None else np.log10(np.maximum(values, least))
        return values[:, None]

    def _table(self, X: Any, *, reset: bool) -> pd.DataFrame:
        """X as a frame, whose numbers are finite or NaN."""
        if not isinstance(X, pd.DataFrame):
            return pd.DataFrame(
                validate_data(self, X, dtype=[np.float64, np.float32], ensure_all_finite="allow-nan", reset=reset)
            )
        validate_data(self, X, skip_check_array=True, reset=reset)
        numbers = X.select_dtypes("number")
        infinite = numbers.columns[np.isinf(numbers.to_numpy(dtype=np.float64, na_value=np.nan)).any(axis=0)]
        if len(infinite):
            raise ValueError(f"Input X contains infinity, in column {infinite[0]!r}; a missing number is NaN")
        return X

    def _chosen(self, table: pd.DataFrame) -> list[int]:
        """Numbers of the columns that are hyper-parameters."""
        names = table.columns.tolist()
        if not set(names) & {*CANONICAL, *IDENTITY}:
            chosen = [number for number, name in enumerate(names) if name != self.target]
        else:
            chosen = [names.index(name) for name in HYPERPARAMETERS if name in names and name != self.target]
        if not chosen:
            but = "" if self.target is None else f" but the target, {self.target!r}"
            raise ValueError(f"X has no column of {', '.join(HYPERPARAMETERS)}{but}; give a zoo's properties")
        return chosen

    @property
    def _n_features_out(self) -> int:
        return len(self.get_feature_names_out())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
