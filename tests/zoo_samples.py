"""Small zoos for tests that need one of a certain shape."""

from __future__ import annotations

import numpy as np
import pandas as pd

from zoobench.contents import ZooContents
from zoobench.layout import WeightLayout


def sample_contents(n_models: int = 20, epochs: tuple[int, ...] = (0, 5, 10), *, seed: int = 0) -> ZooContents:
    """Random CNN-s weights and properties; a model's activation alternates, its seed counts."""
    rng = np.random.default_rng(seed)
    layout = WeightLayout.from_architecture("cnn_s")
    names = [f"seed={i}" for i in range(1, n_models + 1)]
    n_states = n_models * len(epochs)
    table = pd.DataFrame(
        {
            "model": pd.Categorical(names * len(epochs), categories=names),
            "epoch": np.repeat(np.array(epochs, dtype=np.int32), n_models),
            "test_acc": rng.random(n_states),
            "ggap": rng.random(n_states),
            "activation": pd.Categorical((["tanh", "relu"] * n_models)[:n_models] * len(epochs)),
            "seed": np.tile(np.arange(1, n_models + 1), len(epochs)),
        }
    )
    weights = rng.normal(size=(n_states, layout.n_weights)).astype(np.float32)
    return ZooContents("sample", weights, table, layout, provenance={"source": "a test"})
