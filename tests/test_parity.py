"""What a population is trained to is what a plain PyTorch loop trains: one model, torch's layers, torch's optimizers.

The loop is written out here. It gets the population's initial weights, order of images and dropout masks; everything
else is its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ks_2samp
from torch import nn
from torch.nn import functional

from plain_loop import EPOCHS, SEEDS, STORED
from plain_loop import plain_loop as written_out_loop
from zoobench.generators.dropout import UNITS_A_LAYER, DropoutMasks
from zoobench.generators.engine import can_train, train_models
from zoobench.generators.image_sets import IMAGE_SETS, ImageSet, ImageSetting
from zoobench.generators.images import ImageData, load_images
from zoobench.generators.recipes import ModelSettings, Recipe, find_recipe
from zoobench.generators.schedules import SCHEDULES, schedule
from zoobench.generators.training import METRICS, TrainedModel, batch_orders, stream_seed, train_model
from zoobench.loading import load_zoo

# -- the plain loop ----------------------------------------------------------------------------------------------------

ACTIVATIONS = {"tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "relu": nn.ReLU, "gelu": nn.GELU}
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


class Drop(nn.Module):
    """Multiplies by the masks that the population draws."""

    def __init__(self, masks: DropoutMasks, p: float, layer: int) -> None:
        super().__init__()
        self.masks, self.p, self.first = masks, p, layer * UNITS_A_LAYER

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if not self.training or not self.p:
            return values
        units = range(self.first, self.first + values[0].numel())
        return values * torch.from_numpy(self.masks.draw(self.p, len(values), units)).view_as(values).to(values.dtype)


class Residual(nn.Module):
    """ResNet-18 as the paper on it describes it, for small images: weights in the order of torchvision's."""

    def __init__(self, channels: int, n_classes: int, act: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64))
        self.blocks = nn.ModuleList()
        n_in = 64
        for width in (64, 128, 256, 512):
            for stride in (1 if width == 64 else 2, 1):
                block = nn.ModuleList(
                    [
                        nn.Conv2d(n_in, width, 3, stride, 1, bias=False),
                        nn.BatchNorm2d(width),
                        nn.Conv2d(width, width, 3, 1, 1, bias=False),
                        nn.BatchNorm2d(width),
                    ]
                )
                if n_in != width:
                    block.extend([nn.Conv2d(n_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)])
                self.blocks.append(block)
                n_in = width
        self.head = nn.Linear(512, n_classes)
        self.act = act()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = self.act(self.stem(images))
        for conv1, norm1, conv2, norm2, *shortcut in self.blocks:
            other = shortcut[1](shortcut[0](values)) if shortcut else values
            values = self.act(norm2(conv2(self.act(norm1(conv1(values))))) + other)
        return self.head(functional.adaptive_avg_pool2d(values, 1).flatten(1))


def network(architecture: str, channels: int, act: type[nn.Module], masks: DropoutMasks, p: float) -> nn.Module:
    """The networks as their papers describe them."""

    def drop(layer: int) -> nn.Module:
        return Drop(masks, p, layer)

    if architecture == "resnet18":
        return Residual(channels, 10, act)
    layers: dict[str, Sequence[nn.Module]] = {
        "cnn_s": (
            *(nn.Conv2d(channels, 8, 5), nn.MaxPool2d(2), act(), drop(0)),
            *(nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), act(), drop(1)),
            *(nn.Conv2d(6, 4, 2), act(), nn.Flatten()),
            *(nn.Linear(36, 20), act(), drop(3)),
            nn.Linear(20, 10),
        ),
        "cnn_l": (
            *(nn.Conv2d(channels, 16, 3), nn.MaxPool2d(2), act(), drop(0)),
            *(nn.Conv2d(16, 32, 3), nn.MaxPool2d(2), act(), drop(1)),
            *(nn.Conv2d(32, 15, 3), nn.MaxPool2d(2), act(), drop(2), nn.Flatten()),
            *(nn.Linear(60, 20), act(), drop(3)),
            nn.Linear(20, 10),
        ),
        "small_cnn": (
            *(nn.Conv2d(channels, 16, 3, stride=2), act(), drop(0)),
            *(nn.Conv2d(16, 16, 3, stride=2), act(), drop(1)),
            *(nn.Conv2d(16, 16, 3, stride=2), act(), drop(2)),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
            nn.Linear(16, 10),
        ),
    }
    return nn.Sequential(*layers[architecture])


def plain_loop(
    recipe: Recipe,
    settings: ModelSettings,
    images: ImageData,
    start: np.ndarray,
    orders: Iterator[torch.Tensor],
    dtype: torch.dtype = torch.float32,
) -> TrainedModel:
    """All epochs of one model from given weights: the states that the recipe keeps, and what was measured of them."""
    images = replace(images, **{part: getattr(images, part).to(dtype) for part in ("train", "val", "test")})
    values = {"momentum": 0.9, "batch_size": recipe.batch_size, "schedule": "constant", **settings.hyperparameters}
    masks = DropoutMasks(stream_seed(settings.seed, "dropout"))
    module = network(recipe.architecture, images.channels, ACTIVATIONS[values["activation"]], masks, values["dropout"])
    module.to(dtype)
    pieces = torch.from_numpy(start.copy()).split([value.numel() for value in module.state_dict().values()])
    named = zip(module.state_dict().items(), pieces, strict=True)
    module.load_state_dict({name: piece.view(value.shape) for (name, value), piece in named})
    extra = {"momentum": values["momentum"]} if values["optimizer"] == "sgd" else {}
    optimizer = OPTIMIZERS[values["optimizer"]](
        module.parameters(), lr=values["lr"], weight_decay=values["weight_decay"], **extra
    )
    n_steps = recipe.n_epochs * -(-len(images.train) // values["batch_size"])
    cycle = values["schedule"] == "onecycle"
    if cycle:
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=values["lr"], total_steps=n_steps)

    states, metrics = ([start], [measured(module, images)]) if 0 in recipe.epochs else ([], [])
    for epoch in range(1, recipe.n_epochs + 1):
        module.train()
        losses, right = 0.0, 0
        for rows in next(orders).split(values["batch_size"]):
            logits = module(images.train[rows])
            loss = functional.nll_loss(functional.log_softmax(logits, 1), images.train_labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if cycle:
                scheduler.step()
            masks.n_seen += len(rows)
            losses += loss.item() * len(rows)
            right += int((logits.argmax(1) == images.train_labels[rows]).sum())
        if epoch not in recipe.epochs:
            continue
        running = [losses / len(images.train), right / len(images.train)]
        states.append(torch.cat([value.flatten().to(dtype) for value in module.state_dict().values()]).numpy())
        metrics.append(running + measured(module, images, ("val", "test")))
    return TrainedModel(np.stack(states), np.array(metrics))


@torch.no_grad()
def measured(module: nn.Module, images: ImageData, parts: Sequence[str] = ("train", "val", "test")) -> list[float]:
    """Loss and accuracy on parts of the images."""
    module.eval()
    values: list[float] = []
    for part in parts:
        logits, labels = module(getattr(images, part)), getattr(images, f"{part}_labels")
        values += [functional.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).double().mean().item()]
    return values


# -- images ------------------------------------------------------------------------------------------------------------


def few_images(n: int, *, channels: int = 1, side: int = 28) -> ImageData:
    """The first digits, in as many colours and as large as asked for."""
    whole = load_images("digits")
    parts = {}
    for part in ("train", "val", "test"):
        grey = functional.interpolate(getattr(whole, part)[:n], size=(side, side))
        parts[part] = grey * grey.new_tensor([1.0, -0.7, 0.4])[:channels, None, None]
        parts[f"{part}_labels"] = getattr(whole, f"{part}_labels")[:n]
    return replace(whole, **parts)


@pytest.fixture
def colours(monkeypatch) -> None:
    """A set of images in three colours, for the recipes of networks that take no others."""
    setting = ImageSetting(32, (0.5,) * 3, (0.5,) * 3, 45, 45)
    monkeypatch.setitem(IMAGE_SETS, "colours", ImageSet("colours", "", 10, 3, 32, 45, {"cnn_l": setting}))


# -- weights after twenty steps ----------------------------------------------------------------------------------------

#: A training is well-conditioned where single precision follows double precision to this share of a tensor's largest.
WELL_CONDITIONED = 1e-6
#: Elsewhere, two roundings of it are at most so many times further apart than one is from the exact training.
AS_ROUNDING = 30

INITS = ("kaiming_uniform", "kaiming_normal", "uniform", "normal")


def settings_of(
    architecture: str, dataset: str, activation: str, dropout: float, inits: Sequence[str] = INITS
) -> tuple[Recipe, list[ModelSettings]]:
    """Every start with every optimizer, one and the other schedule in turn: four epochs of five batches."""
    grid = {"activation": [activation], "init": inits, "optimizer": [*OPTIMIZERS], "schedule": [*SCHEDULES]}
    grid |= {"lr": [1e-3], "weight_decay": [0.1], "dropout": [dropout]}
    recipe = Recipe(
        dataset=dataset, architecture=architecture, grid=grid, seeds=[7], n_epochs=4, checkpoint_epochs=[0, 1, 4]
    )
    chosen = []
    for model in recipe.models():
        i, j = (list(recipe.grid[axis]).index(model.hyperparameters[axis]) for axis in ("init", "optimizer"))
        if model.hyperparameters["schedule"] == SCHEDULES[(i + j) % 2]:
            chosen.append(model)
    assert len(chosen) == len(inits) * len(OPTIMIZERS)
    return recipe, chosen


def assert_follows(
    got: TrainedModel, wanted: TrainedModel, exact: Callable[[], TrainedModel], recipe: Recipe, about: str
) -> None:
    """The weights are those of the plain loop to 1e-5 of each tensor's largest, the accuracies are the same.

    From U(0, 1) and N(0, 1) losses are in the hundreds, and twenty steps of the recipes' rates magnify the rounding of
    the first: the plain loop in double precision then departs from the one in single precision by more than that, and
    nothing can follow both. There, the distance between the two is the measure.
    """
    after, expected = got.weights[-1], wanted.weights[-1]
    assert np.isfinite([after, expected]).all()
    assert not np.array_equal(got.weights[-1], got.weights[0])
    apart = _apart(after, expected, recipe)
    # In double precision torch takes several times as long: only where single precision may not be enough.
    if apart > 1e-5 or not _same_metrics(got, wanted):
        rounding = _apart(exact().weights[-1], expected, recipe)
        assert rounding > WELL_CONDITIONED, about
        assert apart <= AS_ROUNDING * rounding, about


def _apart(one: np.ndarray, other: np.ndarray, recipe: Recipe) -> float:
    """The largest difference of two states, in shares of their tensors' largest."""
    slices = [tensor.slice for tensor in recipe.layout.tensors]
    return max(float(np.abs(one[part] - other[part]).max() / np.abs(other[part]).max()) for part in slices)


def _same_metrics(got: TrainedModel, wanted: TrainedModel) -> bool:
    accuracies = [METRICS.index(f"{part}_acc") for part in ("train", "val", "test")]
    return np.allclose(got.metrics[:, accuracies], wanted.metrics[:, accuracies], rtol=0, atol=1e-12) and np.allclose(
        got.metrics, wanted.metrics, rtol=1e-3, atol=0
    )


def assert_populations_follow(recipe: Recipe, images: ImageData, models: list[ModelSettings] | None = None) -> None:
    """What the compiled engine and the loop over models train follows the plain loop."""
    models = recipe.models() if models is None else models
    together = train_models(recipe, models, images) if can_train(recipe) else [None] * len(models)
    for settings, native in zip(models, together, strict=True):
        single = train_model(recipe, settings, images)
        in_precision = partial(_from_the_same_start, recipe, settings, images, single.weights[0])
        wanted, exact = in_precision(torch.float32), cache(partial(in_precision, torch.float64))
        assert_follows(single, wanted, exact, recipe, settings.name)
        if native is not None:
            assert_follows(native, wanted, exact, recipe, settings.name)


def _from_the_same_start(
    recipe: Recipe, settings: ModelSettings, images: ImageData, start: np.ndarray, dtype: torch.dtype
) -> TrainedModel:
    return plain_loop(recipe, settings, images, start, batch_orders(settings, len(images.train)), dtype)


@pytest.mark.compiler
@pytest.mark.slow
@pytest.mark.parametrize(("activation", "dropout"), [("tanh", 0.0), ("sigmoid", 0.5), ("relu", 0.3), ("gelu", 0.0)])
def test_every_setting_of_the_small_network_follows_the_plain_loop(activation, dropout):
    """Optimizers, schedules, starts and activations, with and without dropout: twenty steps."""
    recipe, models = settings_of("cnn_s", "digits", activation, dropout)
    assert_populations_follow(recipe, few_images(45), models)


@pytest.mark.compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "activation", "dropout", "inits"),
    [
        ("small_cnn", "relu", 0.5, INITS),
        ("cnn_l", "tanh", 0.5, INITS),
        # From U(0, 1) and N(0, 1) this one diverges.
        ("cnn_l", "gelu", 0.0, INITS[:2]),
    ],
)
def test_every_chain_follows_the_plain_loop(colours, architecture, activation, dropout, inits):
    """Strides, the average over pixels, three colours: optimizers, schedules and starts, with and without dropout."""
    in_colour = architecture == "cnn_l"
    images = few_images(45, channels=3, side=32) if in_colour else few_images(45)
    recipe, models = settings_of(architecture, "colours" if in_colour else "digits", activation, dropout, inits)
    assert can_train(recipe)
    assert_populations_follow(recipe, images, models)


@pytest.mark.slow
def test_the_residual_network_follows_the_plain_loop(colours):
    """Blocks, shortcuts, and the statistics of batch normalisation: SGD over a cycle of the learning rate."""
    grid = {"activation": ["relu"], "init": ["kaiming_uniform"], "optimizer": ["sgd"], "weight_decay": [0.1]}
    grid |= {"schedule": ["onecycle"], "lr": [1e-3]}
    recipe = Recipe(dataset="colours", architecture="resnet18", grid=grid, seeds=[3], n_epochs=1, batch_size=8)
    images = few_images(160, channels=3, side=8)
    assert not can_train(recipe)
    assert_populations_follow(recipe, images)


@pytest.mark.compiler
def test_each_model_has_its_own_momentum_and_batch_size():
    """Axes of one population, side by side."""
    images = few_images(21)
    grid = {"init": ["kaiming_uniform"], "optimizer": ["sgd"], "lr": [1e-3], "dropout": [0.3]}
    grid |= {"momentum": [0.0, 0.5, 0.9], "batch_size": [1, 7, 50]}
    assert_populations_follow(Recipe(grid=grid, seeds=[1], n_epochs=2), images)


@pytest.mark.compiler
def test_weight_decay_and_its_kind_would_be_seen():
    """What the tests above allow is less than what Adam and AdamW, or decay and none, differ by."""
    images = few_images(45)
    grid = {"init": ["kaiming_uniform"], "optimizer": ["adam", "adamw"], "lr": [1e-3], "weight_decay": [0.0, 0.1]}
    recipe = Recipe(grid=grid, seeds=[7], n_epochs=4)
    states = {
        (model.hyperparameters["optimizer"], model.hyperparameters["weight_decay"]): trained.weights[-1]
        for model, trained in zip(recipe.models(), train_models(recipe, recipe.models(), images), strict=True)
    }
    adam, adamw, without = states["adam", 0.1], states["adamw", 0.1], states["adam", 0.0]
    for one, other in ((adam, adamw), (adam, without), (adamw, without)):
        assert np.abs(one - other).max() > 1e-3
    np.testing.assert_allclose(states["adamw", 0.0], without, rtol=1e-6)


# -- the accuracy curve of an epoch ------------------------------------------------------------------------------------


@pytest.mark.compiler
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_accuracies_of_an_epoch_are_the_plain_loops(optimizer):
    """110 steps on all digits: before and after them, the same images are answered rightly."""
    images = load_images("digits")
    grid = {"activation": ["tanh"], "init": ["kaiming_uniform"], "optimizer": [optimizer], "weight_decay": [1e-3]}
    recipe = Recipe(grid=grid | {"lr": [1e-3], "schedule": ["constant", "onecycle"]}, seeds=[1], n_epochs=1)
    models = recipe.models()
    for settings, native in zip(models, train_models(recipe, models, images), strict=True):
        wanted = plain_loop(recipe, settings, images, native.weights[0], batch_orders(settings, len(images.train)))
        for got in (native, train_model(recipe, settings, images)):
            np.testing.assert_allclose(got.metrics[:, 1::2], wanted.metrics[:, 1::2], rtol=0, atol=1e-12)
            np.testing.assert_allclose(got.metrics, wanted.metrics, rtol=1e-3)


# -- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("n_steps", [1, 2, 3, 4, 10, 101])
def test_the_cycle_is_torchs(n_steps, optimizer):
    """Learning rate and momentum, or beta1, of each step."""
    extra = {"momentum": 0.9} if optimizer == "sgd" else {}
    steps = OPTIMIZERS[optimizer]([torch.zeros(1, requires_grad=True)], lr=0.1, **extra)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(steps, max_lr=0.1, total_steps=n_steps)
    wanted = []
    for _ in range(n_steps):
        (group,) = steps.param_groups
        wanted.append((group["lr"], group["momentum"] if optimizer == "sgd" else group["betas"][0]))
        steps.step()
        scheduler.step()
    np.testing.assert_allclose(
        np.transpose(schedule("onecycle", lr=0.1, momentum=0.9, n_steps=n_steps)), wanted, rtol=1e-12
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_steps_have_no_rates(name):
    """A training of no epochs has a schedule too."""
    assert [len(values) for values in schedule(name, lr=0.1, momentum=0.9, n_steps=0)] == [0, 0]


def test_an_unknown_schedule_is_refused():
    """With what is known."""
    with pytest.raises(ValueError, match="'cosine' is unknown; known: constant, onecycle"):
        schedule("cosine", lr=0.1, momentum=0.9, n_steps=3)


# -- distributions -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.compiler
def test_forty_models_are_distributed_as_the_authors_and_a_plain_loops_are():
    """Test accuracy and running train accuracy after 1, 5 and 10 epochs, with a published experiment's settings."""
    published = load_zoo(Path(__file__).parent / "data" / "tune_zoo_digits_uniform.zip").properties
    stored = pd.read_csv(STORED)
    recipe = Recipe(seeds=range(1, 41), n_epochs=10, checkpoint_epochs=EPOCHS)
    for axis in ("activation", "init", "optimizer", "dropout", "lr", "weight_decay"):
        assert [*published[axis].unique()] == recipe.grid[axis]
    assert set(recipe.seeds).isdisjoint(stored["seed"])
    trained = np.stack([m.metrics for m in train_models(recipe, recipe.models(), load_images("digits"))])
    for number, epoch in enumerate(recipe.epochs):
        for theirs in (published, stored):
            others = theirs[theirs["epoch"] == epoch]
            assert len(others) == 40
            for metric in ("test_acc", "train_acc"):
                ours = trained[:, number, METRICS.index(metric)]
                assert ks_2samp(others[metric], ours).pvalue > 0.01, (epoch, metric)


def test_the_plain_loop_gives_what_is_stored_of_it():
    """The loop that is compared with above: its first models, after an epoch."""
    stored = pd.read_csv(STORED)
    assert sorted(stored["seed"].unique()) == list(SEEDS)
    for seed in SEEDS[:2]:
        (row,) = written_out_loop(seed, [1], load_images("digits"))
        (expected,) = stored[(stored["seed"] == seed) & (stored["epoch"] == 1)].to_dict("records")
        assert row["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-4)
        # An image of 1100, or of 397, may be at the edge.
        assert row["train_acc"] == pytest.approx(expected["train_acc"], abs=1.5 / 1100)
        assert row["test_acc"] == pytest.approx(expected["test_acc"], abs=1.5 / 397)


@pytest.mark.slow
@pytest.mark.compiler
def test_a_model_of_the_seed_recipe_is_the_same_alone_and_among_others():
    """Its weights after an epoch of all digits, trained alone or among 32."""
    recipe = replace(find_recipe("digits_cnn_s_seed"), n_epochs=1, checkpoint_epochs=[1])
    models = recipe.models()[:32]
    images = load_images("digits")
    together = train_models(recipe, models, images)
    for place in (0, 21):
        (alone,) = train_models(recipe, [models[place]], images)
        assert np.abs(alone.weights - together[place].weights).max() < 1e-5
