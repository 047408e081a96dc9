"""Estimators that learn from zoos: transformers of weights, property predictors, autoencoders and samplers.

All of them are scikit-learn estimators. They load on first use, so that nobody who fits a ridge regression pays for
importing what trains neural networks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoobench.estimators.alignment import PermutationAligner
    from zoobench.estimators.classifier import LinearProbeClassifier
    from zoobench.estimators.hyper_representation import HYPER_REPRESENTATION_PRESETS, HyperRepresentation
    from zoobench.estimators.hyperparameters import HyperparameterEncoder
    from zoobench.estimators.kde import WeightKDE
    from zoobench.estimators.latent_kde import LatentKDE
    from zoobench.estimators.linear import LinearProbeRegressor
    from zoobench.estimators.methods import list_methods, make_method
    from zoobench.estimators.pca import WeightPCA
    from zoobench.estimators.permutation import NeuronPermutation
    from zoobench.estimators.property_classifier import PropertyClassifier
    from zoobench.estimators.property_regressor import PropertyRegressor
    from zoobench.estimators.scaler import LayerScaler
    from zoobench.estimators.spectral import SpectralFeatures
    from zoobench.estimators.statistics import WeightStatistics
    from zoobench.estimators.weight_autoencoder import WeightAutoencoder

__all__ = [
    "HYPER_REPRESENTATION_PRESETS",
    "HyperRepresentation",
    "HyperparameterEncoder",
    "LatentKDE",
    "LayerScaler",
    "LinearProbeClassifier",
    "LinearProbeRegressor",
    "NeuronPermutation",
    "PermutationAligner",
    "PropertyClassifier",
    "PropertyRegressor",
    "SpectralFeatures",
    "WeightAutoencoder",
    "WeightKDE",
    "WeightPCA",
    "WeightStatistics",
    "list_methods",
    "make_method",
]

_DEFINED_IN = {
    "HYPER_REPRESENTATION_PRESETS": "zoobench.estimators.hyper_representation",
    "HyperRepresentation": "zoobench.estimators.hyper_representation",
    "HyperparameterEncoder": "zoobench.estimators.hyperparameters",
    "LatentKDE": "zoobench.estimators.latent_kde",
    "LayerScaler": "zoobench.estimators.scaler",
    "LinearProbeClassifier": "zoobench.estimators.classifier",
    "LinearProbeRegressor": "zoobench.estimators.linear",
    "NeuronPermutation": "zoobench.estimators.permutation",
    "PermutationAligner": "zoobench.estimators.alignment",
    "PropertyClassifier": "zoobench.estimators.property_classifier",
    "PropertyRegressor": "zoobench.estimators.property_regressor",
    "SpectralFeatures": "zoobench.estimators.spectral",
    "WeightAutoencoder": "zoobench.estimators.weight_autoencoder",
    "WeightKDE": "zoobench.estimators.kde",
    "WeightPCA": "zoobench.estimators.pca",
    "WeightStatistics": "zoobench.estimators.statistics",
    "list_methods": "zoobench.estimators.methods",
    "make_method": "zoobench.estimators.methods",
}

if not TYPE_CHECKING:  # A type checker that saw this would take every misspelt name for granted.

    def __getattr__(name: str) -> Any:
        if name not in _DEFINED_IN:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_DEFINED_IN[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
