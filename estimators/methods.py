"""Methods by name: the baselines that a table of results needs, each as a ready pipeline with its source."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from importlib.util import find_spec
from inspect import signature
from typing import Any, NamedTuple

import pandas as pd
import sklearn
from sklearn.pipeline import Pipeline

from zoobench.layout import WeightLayout

_TASKS = ("regression", "classification")

#: Dimensions that PCA, KernelPCA and UMAP reduce weights to: as many as the Model Zoos' benchmark gives KernelPCA.
_N_COMPONENTS = 50

#: For many features that say nearly the same: each split sees a fifth of them. Chosen on the val models of the bundled
#: hyper-parameter zoo.
_BOOSTING = {"max_iter": 150, "learning_rate": 0.06, "max_features": 0.2, "min_samples_leaf": 5}

#: What a fit may be given to hold out, beside X and y.
_HELD_OUT = ("groups", "X_val", "y_val")

_MODEL_ZOOS = "Schürholt et al. 2022, arXiv:2209.14764, section 4"
_UNTERTHINER = "Unterthiner et al. 2020, arXiv:2002.11448"
_HYPER_REPRESENTATIONS = "Schürholt et al. 2022, arXiv:2209.14733"

#: Extra -> the module that it installs.
EXTRAS = {"boost": "lightgbm", "umap": "umap"}


class _Setting(NamedTuple):
    classify: bool
    layout: WeightLayout | str | None
    target: str | None
    random_state: Any
    device: str


class _Method(NamedTuple):
    summary: str
    source: str
    steps: tuple[Callable[[_Setting], Any], ...]
    inputs: str = "weights"
    extra: str | None = None


# -- steps: imported when a method is made, because some need torch ----------------------------------------------------


def _statistics(setting: _Setting) -> Any:
    from zoobench.estimators.statistics import WeightStatistics

    return WeightStatistics(setting.layout)


def _extreme_statistics(setting: _Setting) -> Any:
    from zoobench.estimators.statistics import WeightStatistics

    return WeightStatistics(setting.layout, preset="unterthiner")


def _spectra(setting: _Setting) -> Any:
    from zoobench.estimators.spectral import SpectralFeatures

    return SpectralFeatures(setting.layout)


def _aligned(setting: _Setting) -> Any:
    from zoobench.estimators.alignment import PermutationAligner

    return PermutationAligner(setting.layout, random_state=setting.random_state)


def _pca(setting: _Setting) -> Any:
    from zoobench.estimators.pca import WeightPCA

    return WeightPCA(_N_COMPONENTS, layout=setting.layout, random_state=setting.random_state)


def _kernel_pca(setting: _Setting) -> Any:
    from sklearn.decomposition import KernelPCA

    return KernelPCA(_N_COMPONENTS, kernel="rbf", random_state=setting.random_state)


def _umap(setting: _Setting) -> Any:
    from umap import UMAP

    return UMAP(n_neighbors=25, min_dist=0.001, n_components=_N_COMPONENTS, random_state=setting.random_state)


def _hyper_representation(setting: _Setting) -> Any:
    from zoobench.estimators.hyper_representation import HyperRepresentation

    return HyperRepresentation(setting.layout, device=setting.device, random_state=setting.random_state)


def _hyperparameters(setting: _Setting) -> Any:
    from zoobench.estimators.hyperparameters import HyperparameterEncoder

    # As a frame, whose categories the boosting recognises.
    return HyperparameterEncoder(target=setting.target).set_output(transform="pandas")


def _dummy(setting: _Setting) -> Any:
    from sklearn.dummy import DummyClassifier

    from zoobench.estimators.known_rows import DummyRegressor

    return DummyClassifier(strategy="most_frequent") if setting.classify else DummyRegressor()


def _probe(setting: _Setting) -> Any:
    """The linear probe of the Model Zoos' benchmark."""
    from zoobench.estimators.classifier import LinearProbeClassifier
    from zoobench.estimators.linear import LinearProbeRegressor

    if setting.classify:
        return LinearProbeClassifier("adam", random_state=setting.random_state)
    return LinearProbeRegressor(penalize_intercept=True)


def _boosting(setting: _Setting) -> Any:
    return _boosting_as_it_comes(setting).set_params(**_BOOSTING)


def _boosting_as_it_comes(setting: _Setting) -> Any:
    """The row of the paper's table: a few features, of which none is to be left out."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    from zoobench.estimators.known_rows import HistGradientBoostingRegressor

    boosting = HistGradientBoostingClassifier if setting.classify else HistGradientBoostingRegressor
    # Its own early stopping would hold out rows, and so put states of one network on both sides.
    return boosting(early_stopping=False, random_state=setting.random_state)


def _published_boosting(setting: _Setting) -> Any:
    from zoobench.estimators.published_boosting import (
        PUBLISHED_SETTINGS,
        PublishedBoostingClassifier,
        PublishedBoostingRegressor,
    )

    boosting = PublishedBoostingClassifier if setting.classify else PublishedBoostingRegressor
    return boosting(**PUBLISHED_SETTINGS, random_state=setting.random_state)


def _mlp(setting: _Setting, preset: str = "mlp") -> Any:
    from zoobench.estimators.property_classifier import PropertyClassifier
    from zoobench.estimators.property_regressor import PropertyRegressor

    network = PropertyClassifier if setting.classify else PropertyRegressor
    layout = setting.layout if preset == "statnn" else None
    built = network(preset, layout=layout, device=setting.device, random_state=setting.random_state)
    # Cross entropy on held-out networks rises before accuracy stops rising: for names, the whole cycle is trained.
    return built.set_params(n_iter_no_change=None) if setting.classify else built


def _statnn(setting: _Setting) -> Any:
    return _mlp(setting, "statnn")


_METHODS = {
    "dummy": _Method(
        "mean of the training targets, or their most frequent class", "none: what has learned nothing", (_dummy,)
    ),
    "hyperparameters_boosting": _Method(
        "gradient boosting on the hyper-parameters alone",
        f"{_UNTERTHINER}, section 5",
        (_hyperparameters, _boosting_as_it_comes),
        inputs="hyperparameters",
    ),
    "statistics_ridge": _Method("the linear probe on layer statistics, s(W)", _MODEL_ZOOS, (_statistics, _probe)),
    "statistics_boosting": _Method(
        "gradient boosting on layer statistics, s(W)", _UNTERTHINER, (_statistics, _boosting)
    ),
    "statistics_lightgbm": _Method(
        "LightGBM with the published settings on layer statistics with minimum and maximum",
        _UNTERTHINER,
        (_extreme_statistics, _published_boosting),
        extra="boost",
    ),
    "statnn": _Method(
        "multi-layer perceptron on layer statistics with minimum and maximum",
        "StatNN as in Zhou et al. 2023, arXiv:2302.14040",
        (_statnn,),
    ),
    "weights_ridge": _Method("the linear probe on raw weights, W", _MODEL_ZOOS, (_probe,)),
    "weights_boosting": _Method("gradient boosting on raw weights", _UNTERTHINER, (_boosting,)),
    "weights_mlp": _Method("multi-layer perceptron on raw weights", _UNTERTHINER, (_mlp,)),
    "aligned_weights_ridge": _Method(
        "the linear probe on weights aligned by permutations",
        "Ainsworth et al. 2022, arXiv:2209.04836",
        (_aligned, _probe),
    ),
    "aligned_weights_boosting": _Method(
        "gradient boosting on weights aligned by permutations",
        "Ainsworth et al. 2022, arXiv:2209.04836",
        (_aligned, _boosting),
    ),
    "aligned_weights_mlp": _Method(
        "multi-layer perceptron on weights aligned by permutations",
        "Ainsworth et al. 2022, arXiv:2209.04836",
        (_aligned, _mlp),
    ),
    "pca_ridge": _Method("the linear probe on 50 principal components of the weights", _MODEL_ZOOS, (_pca, _probe)),
    "kernel_pca_ridge": _Method(
        "the linear probe on 50 components of KernelPCA with a Gaussian kernel", _MODEL_ZOOS, (_kernel_pca, _probe)
    ),
    "umap_ridge": _Method(
        "the linear probe on 50 dimensions of UMAP (25 neighbours, smallest distance 0.001)",
        _MODEL_ZOOS,
        (_umap, _probe),
        extra="umap",
    ),
    "spectral_boosting": _Method(
        "gradient boosting on norms and power laws of each layer's singular values",
        "Martin et al. 2021, arXiv:2002.06716",
        (_spectra, _boosting),
    ),
    "hyper_representation_ridge": _Method(
        "the linear probe on latents of a transformer autoencoder with contrastive loss",
        _HYPER_REPRESENTATIONS,
        (_hyper_representation, _probe),
    ),
}


def list_methods() -> pd.DataFrame:
    """The methods that :func:`make_method` knows.

    Returns
    -------
    DataFrame
        One row a method, in the order in which tables show them; the index is its name. Columns: ``inputs``
        (``"weights"``, or ``"hyperparameters"`` for a zoo's frame of properties), ``summary``, ``source``, and
        ``extra``, the extra of the package that it needs, or None.

    Examples
    --------
    >>> from zoobench.estimators import list_methods
    >>> list_methods().loc["statistics_lightgbm", ["inputs", "extra"]].tolist()
    ['weights', 'boost']
    """
    fields = ("inputs", "summary", "source", "extra")
    rows = {name: [getattr(method, field) for field in fields] for name, method in _METHODS.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(fields), dtype=object).rename_axis("method")


def make_method(
    name: str,
    *,
    task: str = "regression",
    layout: WeightLayout | str | None = None,
    target: str | None = None,
    random_state: Any = 0,
    device: str = "auto",
) -> Pipeline:
    """A method by its name, as a pipeline to be fitted.

    Parameters
    ----------
    name : str
        One of :func:`list_methods`.
    task : {"regression", "classification"}, default="regression"
        Whether the property is a number or a name.
    layout : WeightLayout, str or None, default=None
        Which columns belong to which layer, for methods that look at layers: a zoo's ``layout``, or the name of an
        architecture. None takes all columns as one layer.
    target : str or None, default=None
        The property to predict; matters to ``"hyperparameters_boosting"`` alone, which leaves it out of its inputs.
    random_state : int, RandomState instance or None, default=0
        For every step that draws random numbers.
    device : str, default="auto"
        Where networks are trained.

    Returns
    -------
    Pipeline
        Takes weights, or a zoo's ``properties`` where :func:`list_methods` says ``"hyperparameters"``.

    Raises
    ------
    ValueError
        If the method or the task is unknown.
    ImportError
        If the method needs an extra that is not installed.

    Notes
    -----
    What chooses a penalty or stops early takes ``groups``, ``X_val`` and ``y_val`` in ``fit``. A pipeline passes them
    on where scikit-learn's metadata routing is enabled when it is made and when it is fitted; it then sends ``X_val``
    through its transformers. Some methods have no use for them:
    ``pipeline.get_metadata_routing().consumes("fit", ["groups", "X_val", "y_val"])`` says which ones to give.

    Examples
    --------
    >>> import sklearn
    >>> from zoobench import fetch_zoo
    >>> from zoobench.estimators import make_method
    >>> train, val, test = (fetch_zoo("digits_cnn_s", subset=part) for part in ("train", "val", "test"))
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     method = make_method("statistics_ridge", layout=train.layout)
    ...     method = method.fit(train.data, train.target, X_val=val.data, y_val=val.target)
    >>> bool(method.score(test.data, test.target) > 0.9)
    True
    """
    if name not in _METHODS:
        close = difflib.get_close_matches(name, _METHODS, n=3)
        raise ValueError(f"unknown method {name!r}; {'close' if close else 'known'}: {', '.join(close or _METHODS)}")
    if task not in _TASKS:
        raise ValueError(f"task must be {' or '.join(map(repr, _TASKS))}, not {task!r}")
    method = _METHODS[name]
    if method.extra is not None and find_spec(EXTRAS[method.extra]) is None:
        module = EXTRAS[method.extra]
        raise ImportError(f"method {name!r} needs {module}; install it with: pip install 'zoobench[{method.extra}]'")
    setting = _Setting(task == "classification", layout, target, random_state, device)
    steps = [(build.__name__.lstrip("_"), build(setting)) for build in method.steps]
    routing = bool(sklearn.get_config()["enable_metadata_routing"])
    with sklearn.config_context(enable_metadata_routing=True):
        for _, step in steps:
            wanted = [key for key in _HELD_OUT if key in signature(step.fit).parameters]
            # scikit-learn's boosting has validation data for its early stopping, which is off.
            if wanted and type(step).__module__.startswith("zoobench."):
                step.set_fit_request(**dict.fromkeys(wanted, True))
    return Pipeline(steps, transform_input=["X_val"] if routing else None)
