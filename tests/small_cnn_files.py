"""Parts of the Small CNN Zoo as their authors publish them, of any size and with networks of any make."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import pandas as pd

import zoo_files

#: The variables of the published networks, in their order: the bias before the kernel, kernels as TensorFlow has them.
VARIABLES = {
    "sequential/conv2d/bias:0": (16,),
    "sequential/conv2d/kernel:0": (3, 3, 1, 16),
    "sequential/conv2d_1/bias:0": (16,),
    "sequential/conv2d_1/kernel:0": (3, 3, 16, 16),
    "sequential/conv2d_2/bias:0": (16,),
    "sequential/conv2d_2/kernel:0": (3, 3, 16, 16),
    "sequential/dense/bias:0": (10,),
    "sequential/dense/kernel:0": (16, 10),
}
EPOCHS = (0, 1, 2, 3, 20, 40, 60, 80, 86)


def layout_csv(variables: dict[str, tuple[int, ...]] = VARIABLES) -> bytes:
    sizes = [int(np.prod(shape)) for shape in variables.values()]
    stops = np.cumsum(sizes)
    table = pd.DataFrame(
        {
            "varname": list(variables),
            "start_idx": stops - sizes,
            "end_idx": stops,
            "shape": [str(shape) for shape in variables.values()],
        }
    )
    return table.to_csv(index=False).encode()


def metrics_table(n_models: int = 3, epochs: tuple[int, ...] = EPOCHS, *, seed: int = 0) -> pd.DataFrame:
    """A row a state, a model's states together, as published."""
    rng = np.random.default_rng(seed)
    model = np.repeat(np.arange(n_models), len(epochs))

    def each(values: list) -> np.ndarray:
        return np.array(values)[np.arange(n_models) % len(values)][model]

    accuracy = rng.random((2, len(model)))
    return pd.DataFrame(
        {
            "config.activation": each(["relu", "tanh"]),
            "config.b_init": each(["zeros"] if n_models == 1 else ["zeros", "zeros", "ones"]),
            "config.dataset": each(["mnist"]),
            "config.dropout": each([0.0, 0.25]),
            "config.init_std": each([0.1, 0.01]),
            "config.l2reg": each([1e-4, 1e-8]),
            "config.learning_rate": each([0.0123456789012345, 0.1]),
            "config.optimizer": each(["adam", "sgd", "rmsprop"]),
            "config.train_fraction": each([0.1, 1.0]),
            "config.w_init": each(["glorot_normal", "orthogonal"]),
            "modeldir": [f"/somewhere/mnist/{100 + i}" for i in model],
            "step": np.tile(epochs, n_models),
            "test_accuracy": accuracy[0],
            "test_loss": rng.random(len(model)),
            "train_accuracy": accuracy[1],
            "train_loss": rng.random(len(model)),
        }
    )


def csv_bytes(table: pd.DataFrame, *, index: bool = True) -> bytes:
    return table.to_csv(index=index).encode()


def npy_bytes(weights: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, weights, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def published_weights(n_states: int, n_weights: int = 4970, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=0.1, size=(n_states, n_weights)).astype(np.float32)


def zoo_members(n_models: int = 3, epochs: tuple[int, ...] = EPOCHS, *, folder: str = "mnist/") -> zoo_files.Members:
    """The three files of a small part, in the order that ``ls`` gives."""
    table = metrics_table(n_models, epochs)
    return {
        f"{folder}layout.csv": layout_csv(),
        f"{folder}metrics.csv.gz": gzip.compress(csv_bytes(table), mtime=0),
        f"{folder}weights.npy": npy_bytes(published_weights(len(table))),
    }


def write(path: Path, members: zoo_files.Members, form: str) -> Path:
    """The files as folder, zip or tar."""
    if form == "folder":
        return zoo_files.write_folder(path, members)
    if form == "zip":
        return zoo_files.write_zip(path.with_suffix(".zip"), members)
    mode = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[form]
    return zoo_files.write_tar(path.with_name(f"{path.name}.{form}"), members, mode)
