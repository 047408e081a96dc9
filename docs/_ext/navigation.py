"""Which page belongs to which section, in which order.

The pages are plain Markdown, read on the code host too, where a toctree would be noise. So the toctrees stand here, and
are added to the pages when Sphinx reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

#: Page -> the pages below it. What starts with "generated/" or "auto_examples/" is written when the site is built.
SECTIONS: dict[str, tuple[str, ...]] = {
    "index": (
        "getting_started",
        "user_guide",
        "leaderboard",
        "generated/zoos/index",
        "generated/methods",
        "auto_examples/index",
        "generated/api/index",
        "speed",
        "faq",
        "generated/contributing",
        "generated/changes",
    ),
    "user_guide": (
        "fetching",
        "bring_your_zoo",
        "zoo_format",
        "generators",
        "images",
        "sparsified_twins",
        "analysis",
        "displays",
    ),
    "leaderboard": ("bring_your_method", "paper_benchmark", "reproducibility"),
    "generated/methods": ("estimators/methods", "estimators/index"),
    "estimators/index": (
        "estimators/weight_statistics",
        "estimators/spectral_features",
        "estimators/weight_pca",
        "estimators/layer_scaler",
        "estimators/permutation_aligner",
        "estimators/neuron_permutation",
        "estimators/weight_autoencoder",
        "estimators/hyper_representation",
        "estimators/linear_probe_regressor",
        "estimators/linear_probe_classifier",
        "estimators/property_regressor",
        "estimators/property_classifier",
        "estimators/hyperparameter_encoder",
        "estimators/weight_kde",
        "estimators/latent_kde",
    ),
}

#: What the navigation calls pages whose own titles are longer than it has room for.
SHORT = {
    "user_guide": "User guide",
    "leaderboard": "Leaderboard",
    "generated/zoos/index": "Zoos",
    "generated/methods": "Methods",
    "estimators/methods": "How they compare",
    "auto_examples/index": "Gallery",
    "generated/api/index": "API",
}


def toctree(page: str, *, markdown: bool) -> str:
    """The hidden toctree of a page, in the language that the page is written in."""
    lines = [f"{SHORT[entry]} </{entry}>" if entry in SHORT else f"/{entry}" for entry in SECTIONS[page]]
    if markdown:
        return "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(lines) + "\n```\n"
    return "\n\n.. toctree::\n   :hidden:\n\n" + "".join(f"   {line}\n" for line in lines)


def _add_toctree(app: Sphinx, docname: str, source: list[str]) -> None:
    if docname in SECTIONS:
        source[0] += toctree(docname, markdown=app.env.doc2path(docname).suffix == ".md")


def _trim_code(app: Sphinx, doctree: nodes.document) -> None:
    """Examples end in an empty line, which a doctest needs and a reader does not."""
    for block in doctree.findall(nodes.literal_block):
        if block.rawsource == block.astext():  # else it has markup of its own
            text = block.astext().rstrip()
            block.rawsource = text
            block[:] = [nodes.Text(text)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _add_toctree)
    app.connect("doctree-read", _trim_code)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
