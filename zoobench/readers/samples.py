"""The weights of chosen samples of a preprocessed file."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoobench.errors import ZooFormatError
from zoobench.layout import WeightLayout
from zoobench.readers.blocks import Block, Template
from zoobench.readers.checkpoint import Structure
from zoobench.readers.rows import empty_rows
from zoobench.readers.tensors import Tensor, as_array, join_tensors
from zoobench.readers.torchfile import TorchFile
from zoobench.readers.unpickle import Record


def read_samples(file: TorchFile, samples: Sequence[Any], layer_indices: Any) -> tuple[np.ndarray, WeightLayout]:
    """Weights of samples, each a state_dict or a vector.

    Parameters
    ----------
    file : TorchFile
        Where their numbers are.
    samples : sequence of Block, Record or Tensor
        In the order of the rows. Not empty.
    layer_indices : object
        What the file says of the layers, for vectors, which do not say it themselves.

    Returns
    -------
    weights : ndarray of shape (n_samples, n_weights), float32
    layout : WeightLayout
        Canonical.

    Raises
    ------
    ZooFormatError
        If the samples differ in shape, or anything is damaged.
    """
    structures = {_key(sample): _structure(sample) for sample in samples}
    first = structures[_key(samples[0])]
"""
"""
