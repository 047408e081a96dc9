"""Sparsified twins of ResNet-18 and of registered architectures: against a plain loop, and as whole zoos."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional

from zoobench.contents import ZooContents
from zoobench.generators import register_architecture, registration, twin_runs
from zoobench.generators.architectures import build_module, initialise
from zoobench.generators.augmentation import augment
from zoobench.generators.evaluation import evaluate
from zoobench.generators.images import ImageData, load_images
from zoobench.generators.sparsify import sparsify_zoo
from zoobench.generators.training import weight_vector
from zoobench.generators.twin_training import twin_seed
from zoobench.layout import WeightLayout
from zoobench.loading import load_zoo
from zoobench.zoo import Zoo

IMAGES = [name for part in ("train", "val", "test") for name in (part, f"{part}_labels")]


class TinyResidual(nn.Module):
    """What ResNets are made of, and torch's own dropout: strides, padding, groups, a layer without bias, a sum."""

    def __init__(self, channels: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 5, stride=4, padding=2, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(4 * 49, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = self.bn(self.conv(images)).relu()
        return self.fc(self.dropout((values + self.inner(values)).flatten(1)))


def build_residual(channels: int, n_classes: int, _: str, dropout: float) -> nn.Module:
    return TinyResidual(channels, n_classes, dropout)


def registered_zoo(name: str, **values: float | str) -> Zoo:
    """Two untrained models of a registered architecture, with the properties that a recipe's zoo has."""
    modules = [build_module(name, channels=1, n_classes=10, activation="relu", dropout=0.25) for _ in range(2)]
    for seed, module in enumerate(modules):
        initialise(module, "kaiming_normal", torch.Generator().manual_seed(seed))
    table = pd.DataFrame({"model": pd.Categorical(["a", "b"]), "epoch": np.int32([3, 3])})
    settings = {"activation": "relu", "optimizer": "adam", "lr": 1e-3, "weight_decay": 1e-2, "dropout": 0.25} | values
    for key, value in settings.items():
        table[key] = pd.Categorical([value] * 2) if isinstance(value, str) else [value] * 2
    contents = ZooContents(
        f"tiny_{name}",
        np.stack([weight_vector(module) for module in modules]),
        table,
        WeightLayout.from_state_dict(modules[0].state_dict()),
        recipe={"architecture": name, "dataset": "digits", "batch_size": 2},
    )
    return Zoo.from_contents(contents, properties="epoch", drop_nan=False)


@pytest.fixture(autouse=True, scope="module")
def registry() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registration, "_REGISTERED", {})
        register_architecture("residual", build_residual)
        yield


@pytest.fixture(scope="module")
def images() -> ImageData:
    """Few images: twenty steps of two."""
    whole = load_images("digits")
    return replace(whole, **{name: getattr(whole, name)[:40] for name in IMAGES})


# -- one network against a plain loop ----------------------------------------------------------------------------------


class Noisy(nn.Module):
    """A layer with a variance for each weight, written out; of the published form, for convolutions' biases too."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, variant: str, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator
        self.convolves = isinstance(layer, nn.Conv2d)
        self.options = {name: getattr(layer, name) for name in ("stride", "padding", "groups") if self.convolves}
        self.weight, self.bias = layer.weight, layer.bias
        self.log_variance = nn.Parameter(torch.full_like(layer.weight, -10.0))
        self.log_variance_of_bias = None
        if self.convolves and layer.bias is not None and variant == "published":
            self.log_variance_of_bias = nn.Parameter(torch.full_like(layer.bias, -10.0))

    def log_alphas(self) -> list[torch.Tensor]:
        pairs = [(self.weight, self.log_variance), (self.bias, self.log_variance_of_bias)]
        bound = 8.0 if self.convolves else 10.0
        return [(s - 2 * (w.abs() + 1e-15).log()).clamp(-bound, bound) for w, s in pairs if s is not None]

    def apply_to(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return (functional.conv2d if self.convolves else functional.linear)(x, weight, bias, **self.options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        of_weight, *of_bias = (
            log_alpha.exp() * w**2 for log_alpha, w in zip(self.log_alphas(), (self.weight, self.bias), strict=False)
        )
        mean = self.apply_to(x, self.weight, self.bias)
        squares = self.apply_to(x**2, of_weight, of_bias[0] if of_bias else None)
        return mean + torch.sqrt(squares + 1e-15) * torch.randn(mean.shape, generator=self.generator)

    def divergence(self) -> torch.Tensor:
        return sum(
            -(0.63576 * torch.sigmoid(1.8732 + 1.48695 * value) - 0.5 * torch.log1p((-value).exp()) - 0.63576).sum()
            for value in self.log_alphas()
        )

    @torch.no_grad()
    def drop(self) -> None:
        """What is mostly noise becomes zero."""
        for parameter, log_alpha in zip((self.weight, self.bias), self.log_alphas(), strict=False):
            parameter[log_alpha >= 3] = 0.0


def plain_loop(
    module: TinyResidual, name: str, images: ImageData, settings: dict[str, float | str], method: dict[str, object]
) -> np.ndarray:
    """One epoch of a network's twin by torch's modules and optimizers: the state that is evaluated."""
    state = dict(module.state_dict())
    noise = torch.Generator().manual_seed(twin_seed(name, "noise", 0))
    layers = {layer: getattr(module, layer) for layer in ("conv", "inner", "fc")}
    weights = [layer.weight for layer in layers.values()]
    if "variant" in method:
        layers = {layer: Noisy(found, method["variant"], noise) for layer, found in layers.items()}
        for layer, noisy in layers.items():
            setattr(module, layer, noisy)
    else:
        sizes = torch.cat([weight.detach().abs().flatten() for weight in weights])
        bound = sizes.sort(stable=True).values[round(method["sparsity"] * len(sizes))]
        kept = [(weight.detach().abs() >= bound).float() for weight in weights]
    groups = [
        {
            "params": [parameter],
            # Of the standard form, decay is no prior for the logarithms of variances.
            "weight_decay": 0.0 if "log_" in key and method["variant"] == "standard" else settings["weight_decay"],
        }
        for key, parameter in module.named_parameters()
    ]
    make = {"adam": torch.optim.Adam, "sgd": lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)}
    optimizer = make[settings["optimizer"]](groups, lr=settings["lr"])
    order = torch.randperm(len(images.train), generator=torch.Generator().manual_seed(twin_seed(name, "batches", 0)))
    augmenting = torch.Generator().manual_seed(twin_seed(name, "augmentation", 0))
    module.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(twin_seed(name, "dropout", 0))
        for rows in order.split(2):
            if "sparsity" in method:
                for weight, mask in zip(weights, kept, strict=True):
                    weight.data *= mask
            batch = augment(images.train[rows], images.augmentation, augmenting, black=images.black)
            loss = functional.cross_entropy(module(batch), images.train_labels[rows])
            if "variant" in method:
                loss = loss + method["kl_weight"] * sum(layer.divergence() for layer in layers.values())
            optimizer.zero_grad()
            loss.backward()
            if "sparsity" in method:
                for weight, mask in zip(weights, kept, strict=True):
                    weight.grad *= mask
            optimizer.step()
    if "variant" in method:
        for layer in layers.values():
            layer.drop()
    found = {key: value for key, value in module.state_dict().items() if key in state}
    return np.concatenate([found[key].float().numpy().ravel() for key in state])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(
    "method",
    [
        {"method": "variational_dropout", "variant": "standard", "kl_weight": 0.1},
        {"method": "variational_dropout", "variant": "published", "kl_weight": 0.1},
        {"method": "magnitude", "sparsity": 0.6},
    ],
    ids=["standard", "published", "magnitude"],
)
def test_a_registered_network_follows_a_plain_loop(images, method, optimizer):
    """Twenty steps with batch normalisation, groups, dropout and augmentation: the same weights and statistics."""
    # The divergence is steep where a weight is near zero: larger steps of SGD would not be repeatable to 1e-5.
    settings = {"optimizer": optimizer, "lr": 1e-5 if optimizer == "sgd" else 1e-3, "weight_decay": 1e-2}
    zoo = registered_zoo("residual", **settings)
    augmented = replace(images, augmentation="crop_flip")
    found = sparsify_zoo(zoo, images=augmented, n_epochs=1, device="cpu", **method)
    for i, name in enumerate(["a", "b"]):
        expected = plain_loop(zoo.module(i), name, augmented, settings, method)
        assert np.array_equal(found.data[2 + i] == 0, expected == 0)
        np.testing.assert_allclose(found.data[2 + i], expected, rtol=1e-4, atol=1e-5)
    assert (found.data[2:] == 0).any()


# -- whole zoos --------------------------------------------------------------------------------------------------------


def test_twins_of_a_registered_architecture_are_a_zoo_like_others(images, monkeypatch, tmp_path):
    """Written, as other processes train them, read again, built, evaluated and sparsified once more."""
    zoo = registered_zoo("residual")
    settings = {"method": "magnitude", "images": images, "n_epochs": 2, "device": "cpu"}

    def elsewhere(work, calls, n_jobs):
        """What joblib's processes do: they know no architecture but the one that comes with the work."""
        sent = [pickle.dumps(call) for call in calls]
        with monkeypatch.context() as patch:
            patch.setattr(registration, "_REGISTERED", {})
            yield from [work(*pickle.loads(call)) for call in sent]

    monkeypatch.setattr(twin_runs, "unordered", elsewhere)
    twins = sparsify_zoo(zoo, n_jobs=2, out=tmp_path / "twins", **settings)
    assert np.array_equal(twins.data, sparsify_zoo(zoo, **settings).data)
    read = load_zoo(tmp_path / "twins")
    assert read.module(5).bn.num_batches_tracked == 40
    prunable = [zoo.layout.mask(kinds=[kind], roles=["weight"]) for kind in ("conv2d", "linear")]
    zeros = read.data == 0
    assert np.array_equal(zeros[:, prunable[0] | prunable[1]].mean(1), read.properties["sparsity"])
    assert read.properties["sparsity"].tolist() == [0, 0] + [pytest.approx(0.5, abs=1e-3)] * 4
    others = ~(prunable[0] | prunable[1] | zoo.layout.mask(roles=["num_batches_tracked"]))
    assert not zeros[2:, others].any()
    measured = evaluate(read, images=images).frame
    np.testing.assert_allclose(measured["accuracy"], read.properties["test_acc"])
    np.testing.assert_allclose(measured["loss"], read.properties["test_loss"], rtol=1e-5)
    again = sparsify_zoo(read, **settings | {"n_epochs": 1})
    assert np.array_equal(again.data[:2], read.data[4:])
    monkeypatch.setattr(registration, "_REGISTERED", {})
    with pytest.raises(ValueError, match="'residual', which this process does not know; register it first"):
        read.module(0)


@pytest.mark.parametrize("method", ["variational_dropout", "magnitude"])
def test_resnet_18_is_sparsified(method):
    """Weights of convolutions and of the last layer become zero; what normalises is trained on, and its statistics."""
    module = build_module("resnet18", channels=3, n_classes=10, activation="relu")
    initialise(module, "kaiming_uniform", torch.Generator().manual_seed(0))
    values = {"activation": "relu", "optimizer": "sgd", "lr": 1e-3, "weight_decay": 5e-4}
    table = pd.DataFrame({"model": pd.Categorical(["a"]), "epoch": [1]} | {k: [v] for k, v in values.items()})
    layout = WeightLayout.from_architecture("resnet18")
    zoo = Zoo.from_contents(
        ZooContents("tiny_resnet18", weight_vector(module)[None], table, layout), properties="epoch", drop_nan=False
    )
    generator = torch.Generator().manual_seed(0)
    parts = [part for _ in range(3) for part in (torch.rand(2, 3, 8, 8, generator=generator), torch.tensor([0, 1]))]
    data = ImageData("few", *parts, augmentation="crop_flip", black=(0.0, 0.0, 0.0))
    twins = sparsify_zoo(
        zoo, method=method, images=data, n_epochs=1, checkpoint_epochs=[1], hyperparameters={"batch_size": 2}
    )
    before, after = zoo.data[0], twins.data[0]
    normalising = layout.mask(kinds=["batch_norm"])
    zeros = (after == 0) & (before != 0)
    assert not zeros[normalising].any()
    n_weights = (~normalising).sum() - 10
    assert zeros.sum() / n_weights == pytest.approx(twins.properties["sparsity"][0], rel=1e-6)
    assert twins.properties["sparsity"][0] == pytest.approx(0.5) or method == "variational_dropout"
    assert (after != before)[layout.mask(roles=["running_mean", "running_var", "num_batches_tracked"])].all()
    assert (after != before)[layout.mask(kinds=["batch_norm"], roles=["weight"])].mean() > 0.5


def test_what_is_finished_is_trained_again_where_the_architecture_has_changed(images, monkeypatch, tmp_path):
    """An interrupted run goes on with what it has, but not with models of another network of the same name."""
    monkeypatch.setattr(registration, "_REGISTERED", {})
    real, trained = twin_runs._train_chunk, []

    def interrupted(number, *others):
        trained.append(number)
        if trained == [0, 1]:
            raise KeyboardInterrupt
        return real(number, *others)

    monkeypatch.setattr(twin_runs, "_train_chunk", interrupted)
    settings = {"images": images, "method": "magnitude", "n_epochs": 1}
    for folder, slope, expected in (("same", 0.0, [0, 1, 1]), ("changed", 0.5, [0, 1, 0, 1])):
        trained.clear()
        for negative in (0.0, slope):
            registration._REGISTERED.clear()
            register_architecture("residual", lambda *args, negative=negative: Leaky(build_residual(*args), negative))
            zoo = registered_zoo("residual")
            try:
                sparsify_zoo(zoo, out=tmp_path / folder, **settings)
            except KeyboardInterrupt:
                continue
        assert trained == expected


class Leaky(nn.Module):
    """A network behind an activation, which has no weights that would tell one from another."""

    def __init__(self, inner: nn.Module, slope: float) -> None:
        super().__init__()
        self.activation, self.inner = nn.LeakyReLU(slope), inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner(self.activation(images))


def test_an_activation_may_be_given(images):
    """A zoo that does not tell its activation is sparsified with one that is given, and not evaluated without."""
    contents = registered_zoo("residual").to_contents()
    bare = replace(contents, properties=contents.properties.drop(columns="activation"))
    zoo = Zoo.from_contents(bare, properties="epoch", drop_nan=False)
    settings = {"images": images, "method": "magnitude", "n_epochs": 1, "n_models": 1}
    with pytest.raises(ValueError, match="does not say which activation"):
        sparsify_zoo(zoo, **settings)
    with pytest.raises(ValueError, match="does not say which activation"):
        evaluate(zoo, images=images)
    twins = sparsify_zoo(zoo, hyperparameters={"activation": "relu"}, **settings)
    np.testing.assert_allclose(evaluate(twins, images=images).frame["accuracy"], twins.properties["test_acc"])


# -- what cannot be handled --------------------------------------------------------------------------------------------


class Headless(nn.Module):
    """A network whose parts are the test's own."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = images.flatten(1)
        for part in self.children():
            values = part(values)
        return values


class Scaled(nn.Linear):
    """A layer with a forward of its own."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(values)


class Uncalled(Headless):
    """A network that uses a layer's weights without calling it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return functional.linear(images.flatten(1), self.fc.weight, self.fc.bias)


class Tied(Headless):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__(fc=nn.Linear(784, 10), one=nn.Linear(10, 10), two=nn.Linear(10, 10))
        self.two.weight = self.one.weight


class Table(nn.Module):
    """Weights of no known layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.zeros(784, 10))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values @ self.rows


@pytest.mark.parametrize(
    ("build", "method", "message"),
    [
        (
            lambda: Headless(table=Table()),
            "magnitude",
            "layer 'table' of architecture 'broken' cannot .* it is Table, and",
        ),
        (
            lambda: Headless(fc=Scaled(784, 10)),
            "magnitude",
            "layer 'fc' .* it is Scaled, and weights are those of Conv1d",
        ),
        (Tied, "magnitude", "layer 'two' .* it shares 'two.weight' with 'one.weight'"),
        (
            lambda: Uncalled(fc=nn.Linear(784, 10)),
            "variational_dropout",
            "layer 'fc' .* weights are used without calling it",
        ),
        (
            lambda: Headless(pool=nn.AdaptiveAvgPool1d(10), bn=nn.BatchNorm1d(10)),
            "magnitude",
            "architecture 'broken' has no convolution or linear layer to sparsify",
        ),
        (
            lambda: Headless(fc=nn.Linear(784, 10), bn=nn.BatchNorm1d(10)),
            "magnitude",
            "more than 1 value per channel.* a batch of one image is what the batch size leaves.*'batch_size': 4",
        ),
    ],
    ids=["table", "forward", "tied", "uncalled", "none", "one image"],
)
def test_a_layer_that_cannot_be_handled_is_named(images, monkeypatch, build, method, message):
    """Before anything is trained, and in one sentence."""
    monkeypatch.setattr(registration, "_REGISTERED", {})
    register_architecture("broken", lambda *_: build())
    with pytest.raises(ValueError, match=message) as caught:
        sparsify_zoo(registered_zoo("broken"), images=images, method=method, hyperparameters={"batch_size": 3})
    assert "\n" not in str(caught.value)


def test_another_architecture_under_the_name_is_refused(images, monkeypatch):
    """Networks of other shapes, and with other tensors, than those that the zoo was trained with."""
    zoo = registered_zoo("residual")
    for build, message in (
        (
            lambda *_: TinyResidual(1, 7, 0.0),
            "do not fit the networks that .* 'residual' builds: size mismatch for fc.weight",
        ),
        (lambda *_: Headless(fc=nn.Linear(784, 10)), "size mismatch|of other tensors than the zoo's"),
        (lambda *_: nn.Sequential(nn.Flatten()), "of other tensors than the zoo's, the first of them 'bn.bias'"),
    ):
        monkeypatch.setattr(registration, "_REGISTERED", {})
        register_architecture("residual", build)
        with pytest.raises(ValueError, match=message) as caught:
            sparsify_zoo(zoo, images=images)
        assert "\n" not in str(caught.value)
