"""Weight layouts: where each layer lies, whatever the network."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoobench import WeightLayout, ZooFormatError
from zoobench.layout import resolve_layout

shapes = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6)


def layout_of(tensor_shapes: list[tuple[int, ...]]) -> WeightLayout:
    return WeightLayout.from_shapes((f"layer{i}.weight", shape) for i, shape in enumerate(tensor_shapes))


def test_cnn_s_is_the_published_index_dict(data_dir: Path) -> None:
    """The index_dict that the authors publish and our named architecture say the same, in both directions."""
    published = json.loads((data_dir / "index_dict_small.json").read_text())
    layout = WeightLayout.from_architecture("cnn_s")
    assert WeightLayout.from_index_dict(published) == layout
    assert layout.to_index_dict() == published


@pytest.mark.parametrize(
    ("name", "channels", "n_weights"),
    [("cnn_s", 1, 2464), ("cnn_s", 3, 2864), ("cnn_l", 3, 10853), ("small_cnn", 1, 4970)],
)
def test_named_architectures_have_the_published_sizes(name: str, channels: int, n_weights: int) -> None:
    """Number of weights as in the paper; the index_dict round-trips; the name is recognised from the shapes alone."""
    layout = WeightLayout.from_architecture(name, channels=channels)
    assert layout.n_weights == n_weights
    assert layout == WeightLayout.from_architecture(name, n_weights=n_weights) == resolve_layout(name, n_weights)
    assert WeightLayout.from_index_dict(layout.to_index_dict()) == layout
    renamed = WeightLayout.from_shapes((f"other.{i}.weight", t.shape) for i, t in enumerate(layout.tensors))
    assert renamed != layout
    assert renamed.canonical() == layout
    assert renamed.architecture == name


@given(shapes)
def test_flatten_and_unflatten_are_inverse(tensor_shapes: list[tuple[int, ...]]) -> None:
    """Vector -> tensors -> vector is the identity, for one vector and for many."""
    layout = layout_of(tensor_shapes)
    vectors = np.random.default_rng(0).normal(size=(3, layout.n_weights)).astype(np.float32)
    for vector in vectors:
        tensors = layout.unflatten(vector)
        assert [value.shape for value in tensors.values()] == tensor_shapes
        assert np.array_equal(layout.flatten(tensors), vector)
    together = layout.unflatten(vectors)
    assert all(np.array_equal(together[t.name][1], layout.unflatten(vectors[1])[t.name]) for t in layout.tensors)


@given(shapes)
def test_slices_cover_the_vector_without_overlap(tensor_shapes: list[tuple[int, ...]]) -> None:
    """Layers and tensors follow each other without gap, and the plain-data form says the same."""
    layout = layout_of(tensor_shapes)
    ends = [0, *(tensor.slice.stop for tensor in layout.tensors)]
    assert [tensor.slice.start for tensor in layout.tensors] == ends[:-1]
    assert ends[-1] == layout.n_weights == sum(layer.size for layer in layout.layers)
    assert WeightLayout.from_dict(json.loads(json.dumps(layout.to_dict()))) == layout
    assert len(set(layout.feature_names())) == layout.n_weights


def test_kinds_and_roles_are_told_from_the_tensors() -> None:
    """Convolution, BatchNorm with its buffers, norm and linear layers are known; a data-parallel prefix is dropped."""
    state = OrderedDict(
        [
            ("module.conv.weight", np.zeros((2, 1, 3, 3))),
            ("module.bn.weight", np.zeros(2)),
            ("module.bn.bias", np.zeros(2)),
            ("module.bn.running_mean", np.zeros(2)),
            ("module.bn.num_batches_tracked", np.zeros(())),
            ("module.ln.weight", np.zeros(3)),
            ("module.fc.weight", np.zeros((4, 3))),
            ("module.fc.bias", np.zeros(4)),
        ]
    )
    layout = WeightLayout.from_state_dict(state)
    assert [(layer.name, layer.kind) for layer in layout.layers] == [
        ("conv", "conv2d"),
        ("bn", "batch_norm"),
        ("ln", "norm"),
        ("fc", "linear"),
    ]
    fc, bn = layout.layers[3], layout.layers[1]
    assert (fc.weight.slice, fc.bias.slice) == (slice(28, 40), slice(40, 44))
    assert [tensor.role for tensor in bn.tensors] == ["weight", "bias", "running_mean", "num_batches_tracked"]
    assert layout.layers[0].bias is None
    with pytest.raises(ValueError, match="cannot express layer 'conv'"):
        layout.to_index_dict()


def test_flatten_goes_by_order_not_by_name() -> None:
    """Published checkpoints of one architecture differ in their keys; their vectors do not."""
    layout = WeightLayout.from_architecture("cnn_s")
    vector = np.arange(2464, dtype=np.float32)
    shifted = {f"shifted.{i}": value for i, value in enumerate(layout.unflatten(vector).values())}
    assert np.array_equal(layout.flatten(shifted), vector)


def test_errors_name_found_and_expected() -> None:
    """Every refusal says what was given and what would do."""
    layout = WeightLayout.from_architecture("cnn_s")
    with pytest.raises(ValueError, match=r"unknown architecture 'cnn_m'; known are cnn_l, cnn_s"):
        WeightLayout.from_architecture("cnn_m")
    with pytest.raises(ValueError, match=r"2464 \(1 channel, .*\) or 2864 \(3 channels, .*\) weights, but 7 were"):
        resolve_layout("cnn_s", 7)
    with pytest.raises(ValueError, match="takes 1 or 3 image channels, not 2"):
        WeightLayout.from_architecture("cnn_s", channels=2)
    with pytest.raises(ValueError, match="has 2464 weights, but X has 7 features"):
        resolve_layout(layout, 7)
    with pytest.raises(TypeError, match="not 3"):
        resolve_layout(3, 7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"length 2464, found shape \(3,\)"):
        layout.unflatten(np.zeros(3))
    with pytest.raises(ValueError, match="but the layout expects"):
        layout.flatten({"a": np.zeros(3)})
    with pytest.raises(ValueError, match="at least one tensor"):
        WeightLayout([])
    with pytest.raises(ValueError, match="'a' appears more than once"):
        WeightLayout([("a", (1,), "other"), ("a", (1,), "other")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_no": None}, "lacks kernel_no"),
        ({"kernel_no": [8]}, "one entry a layer"),
        ({"idx_start": [0, 1, 2, 3, 4]}, "from 208 were expected"),
        ({"kernel_size": [26, 25, 4, 9, 1], "idx_length": [216, 1206, 100, 740, 210]}, "no square kernel"),
        ({"layer": [1, 2, 3, 4, 5]}, "is not"),
    ],
)
def test_broken_index_dicts_are_refused(data_dir: Path, change: dict, message: str) -> None:
    """An index_dict that contradicts itself is an error that names the layer, never a wrong layout."""
    published = json.loads((data_dir / "index_dict_small.json").read_text()) | change
    broken = {key: value for key, value in published.items() if value is not None}
    with pytest.raises(ZooFormatError, match=message):
        WeightLayout.from_index_dict(broken)


@pytest.mark.parametrize(("n_classes", "n_parameters"), [(10, 11173962), (100, 11220132), (200, 11271432)])
def test_resnet18_has_the_published_size_beside_its_buffers(n_classes: int, n_parameters: int) -> None:
    """ResNet-18 has the published number of parameters; its buffers are in the layout, by kind, and can be left out."""
    layout = WeightLayout.from_architecture("resnet18", n_classes=n_classes)
    assert layout.n_parameters == n_parameters < layout.n_weights
    mask = layout.mask(roles=["weight", "bias"])
    assert mask.sum() == n_parameters
    without = layout.restricted(roles=["weight", "bias"])
    assert without == WeightLayout.from_architecture("resnet18", n_weights=n_parameters)
    assert without.architecture == layout.architecture == "resnet18"
    assert {layer.kind for layer in layout.layers} == {"conv2d", "batch_norm", "linear"}
    buffers = [tensor for tensor in layout.tensors if tensor.role not in ("weight", "bias")]
    assert {tensor.kind for tensor in buffers} == {"batch_norm"}
    assert not any(mask[tensor.slice].any() for tensor in buffers)


def test_masks_choose_by_kind_and_role() -> None:
    """A mask marks the columns of the tensors asked for, and what the layout does not have is named."""
    layout = WeightLayout.from_architecture("cnn_s")
    mask = layout.mask(kinds=["linear"], roles=["bias"])
    assert np.flatnonzero(mask).tolist() == [*range(2234, 2254), *range(2454, 2464)]
    assert layout.mask().all()
    assert layout.restricted() == layout
    with pytest.raises(ValueError, match="no kind 'batch_norm'; it has conv2d, linear"):
        layout.mask(kinds=["batch_norm"])
    with pytest.raises(ValueError, match=r"roles must be a sequence such as \['bias'\]"):
        layout.restricted(roles="bias")
