"""The order of the gallery: what a newcomer wants first."""

from __future__ import annotations

ORDER = (
    "plot_look_at_a_zoo.py",
    "plot_cross_validate_probe.py",
    "plot_train_a_zoo.py",
    "plot_own_method.py",
    "plot_displays.py",
    "plot_weight_pca.py",
    "plot_spectral_features.py",
    "plot_alignment.py",
    "plot_sparsified_twins.py",
    "plot_hyper_representation.py",
    "plot_methods.py",
    "kde_samples.py",
)


class InOrder:
    """Sort key of sphinx-gallery: a new example comes last, by name."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, name: str) -> tuple[int, str]:
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)
