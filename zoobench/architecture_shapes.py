"""The tensors of the named architectures, as plain data: names, shapes and kinds, in the order of the state_dict.

Sources: Model Zoos (NeurIPS 2022), section 3 and appendix, for the two CNNs and ResNet-18; Unterthiner et al. 2020
(arXiv 2002.11448), section 3, for the network of the Small CNN Zoo.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

#: Name, shape and kind of a tensor.
Tensor = tuple[str, tuple[int, ...], str]

#: Chains of layers: name, kind, and shape of the weight. Every layer has a bias of ``shape[0]``. ``C`` stands for the
#: number of image channels.
_CHAINS: dict[str, tuple[tuple[str, str, tuple[int | str, ...]], ...]] = {
    "cnn_s": (
        ("module_list.0", "conv2d", (8, "C", 5, 5)),
        ("module_list.3", "conv2d", (6, 8, 5, 5)),
        ("module_list.6", "conv2d", (4, 6, 2, 2)),
        ("module_list.9", "linear", (20, 36)),
        ("module_list.11", "linear", (10, 20)),
    ),
    "cnn_l": (
        ("module_list.0", "conv2d", (16, "C", 3, 3)),
        ("module_list.4", "conv2d", (32, 16, 3, 3)),
        ("module_list.8", "conv2d", (15, 32, 3, 3)),
        ("module_list.13", "linear", (20, 60)),
        ("module_list.16", "linear", (10, 20)),
    ),
    # The names are ours: the published file has no state_dict.
    "small_cnn": (
        ("module_list.0", "conv2d", (16, "C", 3, 3)),
        ("module_list.2", "conv2d", (16, 16, 3, 3)),
        ("module_list.4", "conv2d", (16, 16, 3, 3)),
        ("module_list.7", "linear", (10, 16)),
    ),
}

#: Channels of ResNet-18's four stages of two blocks each.
_RESNET_STAGES = (64, 128, 256, 512)


class Variant(NamedTuple):
    """One form of a named architecture.

    Attributes
    ----------
    channels : int
        Image channels.
    n_classes : int
        Outputs.
    buffers : bool
        Whether the running statistics of batch normalisation are among the tensors. Always True of networks that have
        no batch normalisation.
    """

    channels: int
    n_classes: int = 10
    buffers: bool = True

    def describe(self) -> str:
        """The form in words."""
        channels = f"{self.channels} channel{'s' * (self.channels > 1)}"
        return f"{channels}, {self.n_classes} classes{'' if self.buffers else ', without buffers'}"


#: The forms of each architecture, the usual one first.
VARIANTS: dict[str, tuple[Variant, ...]] = {
    "cnn_s": (Variant(1), Variant(3)),
    "cnn_l": (Variant(3),),
    "small_cnn": (Variant(1),),
    "resnet18": tuple(Variant(3, n, buffers) for n in (10, 100, 200) for buffers in (True, False)),
}


def find_form(
    name: str, *, channels: int | None, n_classes: int | None, buffers: bool | None, n_weights: int | None
) -> Variant:
    """The form of a named architecture that is asked for; None leaves open, and the usual form is preferred.

    Raises
    ------
    ValueError
        For an unknown name, or where no form is as asked for.
    """
    if name not in VARIANTS:
        raise ValueError(f"unknown architecture {name!r}; known are {', '.join(sorted(VARIANTS))}")
    forms = VARIANTS[name]
    if n_weights is not None:
        sizes = {form: sum(math.prod(shape) for _, shape, _ in tensors_of(name, form)) for form in forms}
        for form, size in sizes.items():
            if size == n_weights:
                return form
        known = " or ".join(f"{size} ({form.describe()})" for form, size in sizes.items())
        raise ValueError(f"architecture {name!r} has {known} weights, but {n_weights} were given")
    for key, wanted, what in (("channels", channels, "image channels"), ("n_classes", n_classes, "classes")):
        sides = list(dict.fromkeys(getattr(form, key) for form in forms))
        if wanted is not None and wanted not in sides:
            raise ValueError(f"architecture {name!r} takes {' or '.join(map(str, sides))} {what}, not {wanted!r}")
    # Every combination of known channels and classes is there, and only some networks have buffers to leave out.
    fits = [form for form in forms if channels in (None, form.channels) and n_classes in (None, form.n_classes)]
    return next((form for form in fits if form.buffers == buffers), fits[0])


@functools.cache
def tensors_of(name: str, variant: Variant) -> tuple[Tensor, ...]:
    """The tensors of a form of a named architecture."""
    if name == "resnet18":
        return tuple(_resnet18(variant))
    tensors: list[Tensor] = []
    for layer, kind, shape in _CHAINS[name]:
        sizes = tuple(variant.channels if isinstance(side, str) else side for side in shape)
        tensors += [(f"{layer}.weight", sizes, kind), (f"{layer}.bias", sizes[:1], kind)]
    return tuple(tensors)


def _resnet18(variant: Variant) -> list[Tensor]:
    """Names and shapes of torchvision's network, but for the first convolution, which is 3 x 3 here."""

    def convolution(name: str, n_out: int, n_in: int, kernel: int) -> list[Tensor]:
        return [(f"{name}.weight", (n_out, n_in, kernel, kernel), "conv2d")]

    def normalisation(name: str, n: int) -> list[Tensor]:
        roles = [("weight", (n,)), ("bias", (n,))]
        buffers = [("running_mean", (n,)), ("running_var", (n,)), ("num_batches_tracked", ())]
        return [(f"{name}.{role}", shape, "batch_norm") for role, shape in roles + buffers * variant.buffers]

    tensors = convolution("conv1", 64, variant.channels, 3) + normalisation("bn1", 64)
    n_in = 64
    for stage, n_out in enumerate(_RESNET_STAGES, 1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            tensors += convolution(f"{name}.conv1", n_out, n_in, 3) + normalisation(f"{name}.bn1", n_out)
            tensors += convolution(f"{name}.conv2", n_out, n_out, 3) + normalisation(f"{name}.bn2", n_out)
            if n_in != n_out:
                tensors += convolution(f"{name}.downsample.0", n_out, n_in, 1)
                tensors += normalisation(f"{name}.downsample.1", n_out)
            n_in = n_out
    return [*tensors, ("fc.weight", (variant.n_classes, n_in), "linear"), ("fc.bias", (variant.n_classes,), "linear")]
