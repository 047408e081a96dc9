"""The gallery: its order, what a newcomer wants first, and what its pictures are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

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


def _describe_pictures(app: Sphinx, doctree: nodes.document) -> None:
    """A picture's text is its own title, or the file's name where it has none: it belongs to the example's title."""
    folder, _, page = app.env.current_document.docname.rpartition("/")
    if folder != "auto_examples" or page == "index":
        return
    title = next(iter(doctree.findall(nodes.title))).astext()
    for number, image in enumerate(doctree.findall(nodes.image), 1):
        own = image.get("alt", "")
        image["alt"] = f"{title}, picture {number}" if own in ("", page.replace("_", " ")) else f"{title}: {own}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-read", _describe_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
