"""What the networks of a zoo compute on the way to their output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from zoobench.generators.chains import Chain, is_chain
from zoobench.generators.evaluation import rows_by_activation
from zoobench.generators.image_fit import architecture_of, check_is_zoo, network_at
from zoobench.zoo import Zoo

#: Images of all states of a call together: a few hundred megabytes of values for the widest chain.
_IMAGES_A_CALL = 2_000


def last_hidden(zoo: Zoo, images: torch.Tensor, rows: Sequence[int] | np.ndarray, *, device: str = "cpu") -> np.ndarray:
    """The last hidden representation that some states of a zoo have of images: what their last linear layer reads.

    Parameters
    ----------
    zoo : Zoo
        Each row's ``activation`` has to be known.
    images : Tensor of shape (n_images, channels, height, width), float32
        Such as the networks take.
    rows : sequence of int
        States to look at.
    device : str, default="cpu"
        Where to compute.

    Returns
    -------
    ndarray of shape (len(rows), n_images, n_features), float32
        In evaluation mode. Of an architecture of your own without a linear layer, its output.

    Raises
    ------
    ValueError
        If the zoo does not say which activation its models use.

    Examples
    --------
    >>> from zoobench import fetch_zoo
    >>> from zoobench.generators.activations import last_hidden
    >>> from zoobench.generators import load_images
    >>> zoo = fetch_zoo("digits_cnn_s", epochs="last")
    >>> last_hidden(zoo, load_images("digits").test[:50], [3, 7]).shape
    (2, 50, 20)
    """
    check_is_zoo(zoo)
    chosen = np.asarray(rows, dtype=np.intp)
    images = images.to(device)
    found: dict[int, np.ndarray] = {}
    with torch.inference_mode():
        for activation, of_activation in rows_by_activation(zoo).items():
            wanted = np.intersect1d(chosen, of_activation)
            if is_chain(architecture_of(zoo)):
                n_together = max(1, _IMAGES_A_CALL // len(images))
                for start in range(0, len(wanted), n_together):
                    together = wanted[start : start + n_together]
                    vectors = torch.from_numpy(np.array(zoo.to_contents().weights[together], dtype=np.float32))
                    values = _of_chain(Chain(zoo.layout, activation), vectors.to(device), images)
                    found |= zip(together.tolist(), values.cpu().numpy(), strict=True)
            else:
                for row in wanted.tolist():
                    values = _of_module(network_at(zoo, row, activation).to(device), images)
                    found[row] = values.cpu().numpy()
    return np.stack([found[row] for row in chosen.tolist()])


def _of_chain(chain: Chain, vectors: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    compute, last = chain.layer_of(vectors), len(chain.layout.layers) - 1

    def layer(number: int, values: torch.Tensor) -> torch.Tensor:
        return values if number == last else compute(number, values)

    # A first axis of 1 means the same images for all; nothing comes between the last layer and the output.
    return chain.run(images[None], layer)


def _of_module(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    read: list[torch.Tensor] = []

    def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        read[:] = inputs[:1]

    if linear:
        linear[-1].register_forward_pre_hook(keep)
    values = []
    # In batches: the first layers of a wide network hold far more values than are asked for.
    for batch in images.split(100):
        outputs = module(batch)
        values.append(read[0] if read else outputs)
    return torch.cat(values).flatten(1)
