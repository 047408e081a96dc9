"""Generators: networks, image data, training and whole zoos."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from torch.nn import functional

from zoobench.datasets_registry.cards import read_cards
from zoobench.generators import population, register_architecture, registration
from zoobench.generators.architectures import INITIAL_BIAS, build_module, initialise
from zoobench.generators.dropout import DropoutMasks
from zoobench.generators.engine import train_models
from zoobench.generators.images import ImageData, load_images
from zoobench.generators.parts import part_path, training_into, write_part
from zoobench.generators.population import make_zoo
from zoobench.generators.recipes import Recipe, find_recipe
from zoobench.generators.training import METRICS, TrainedModel, batch_orders, initial_module, train_model
from zoobench.layout import WeightLayout
from zoobench.loading import load_zoo
from zoobench.store import is_zoo, read_index, read_zoo

#: Two activations are two chunks of models that are trained together.
TINY = Recipe(
    grid={"activation": ["tanh", "relu"], "dropout": [0.0, 0.5]}, seeds=[1, 2], n_epochs=1, batch_size=200, name="tiny"
)


@pytest.fixture(scope="module")
def images() -> ImageData:
    """Few images, so that small batches take little time too."""
    whole = load_images("digits")
    parts = {part: getattr(whole, part)[:45] for part in ("train", "val", "test")}
    return replace(whole, **parts, **{f"{part}_labels": getattr(whole, f"{part}_labels")[:45] for part in parts})


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize(("architecture", "channels", "side"), [("cnn_s", 1, 28), ("cnn_s", 3, 28), ("cnn_l", 3, 32)])
def test_networks_have_the_published_layout(architecture, channels, side, dropout):
    """Names and shapes are those of the layout, with and without dropout; ten logits come out."""
    module = build_module(architecture, channels=channels, activation="tanh", dropout=dropout)
    layout = WeightLayout.from_architecture(architecture, channels=channels)
    assert WeightLayout.from_state_dict(module.state_dict()) == layout
    initialise(module, "kaiming_uniform", torch.Generator().manual_seed(0))
    assert module(torch.zeros(2, channels, side, side)).shape == (2, 10)


def test_the_small_network_computes_what_the_paper_describes():
    """Convolution, pooling, activation, in this order; no pooling before the flattening."""
    module = build_module("cnn_s", channels=1, activation="gelu")
    initialise(module, "normal", torch.Generator().manual_seed(0))
    w = dict(module.state_dict())
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    h = functional.gelu(
        functional.max_pool2d(functional.conv2d(x, w["module_list.0.weight"], w["module_list.0.bias"]), 2)
    )
    h = functional.gelu(
        functional.max_pool2d(functional.conv2d(h, w["module_list.3.weight"], w["module_list.3.bias"]), 2)
    )
    h = functional.gelu(functional.conv2d(h, w["module_list.6.weight"], w["module_list.6.bias"])).flatten(1)
    h = functional.gelu(functional.linear(h, w["module_list.9.weight"], w["module_list.9.bias"]))
    expected = functional.linear(h, w["module_list.11.weight"], w["module_list.11.bias"])
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize(
    ("init", "mean", "deviation"),
    [
        ("uniform", 0.5, 12**-0.5),
        ("normal", 0.0, 1.0),
        # Fan in of the second convolution: 8 x 25 = 200; gain of a=0: sqrt(2).
        ("kaiming_uniform", 0.0, (2 / 200) ** 0.5),
        ("kaiming_normal", 0.0, (2 / 200) ** 0.5),
    ],
)
def test_initialisation_follows_the_scheme(init, mean, deviation):
    """Weights have the scheme's mean and deviation, every bias is 0.01."""
    module = build_module("cnn_s", channels=1, activation="tanh")
    initialise(module, init, torch.Generator().manual_seed(3))
    state = module.state_dict()
    weight = state["module_list.3.weight"]
    assert float(weight.mean()) == pytest.approx(mean, abs=4 * deviation / weight.numel() ** 0.5)
    assert float(weight.std()) == pytest.approx(deviation, rel=0.08)
    assert all(bool((value == INITIAL_BIAS).all()) for name, value in state.items() if name.endswith("bias"))


def test_dropout_acts_in_training_only_and_keeps_the_mean():
    """In evaluation nothing is dropped; in training about p of the units are zero and the others are scaled."""
    module = build_module("cnn_s", channels=1, activation="sigmoid", dropout=0.5)
    dropout = module.module_list.dropout_0
    dropout.masks = DropoutMasks(0)
    ones = torch.ones(20, 10, 10, 10)
    assert torch.equal(dropout.eval()(ones), ones)
    values = dropout.train()(ones)
    assert values.shape == ones.shape
    assert set(values.flatten().tolist()) == {0.0, 2.0}
    assert float(values.mean()) == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"architecture": "cnn_m"}, "cnn_m"),
        ({"activation": "elu"}, "elu"),
        ({"channels": 2}, "channels"),
    ],
)
def test_unknown_networks_are_refused(arguments, message):
    """A network that is none of the Model Zoos' is a clear error."""
    with pytest.raises(ValueError, match=message):
        build_module(**{"architecture": "cnn_s", "channels": 1, "activation": "tanh", **arguments})


# -- image data --------------------------------------------------------------------------------------------------------


def test_digits_are_split_and_scaled_as_described():
    """1100/300/397 images of 28 x 28 in [-1, 1], a permutation of scikit-learn's."""
    from sklearn.datasets import load_digits

    data = load_images("digits")
    assert [tuple(t.shape) for t in (data.train, data.val, data.test)] == [(n, 1, 28, 28) for n in (1100, 300, 397)]
    assert (float(data.train.min()), float(data.train.max())) == (-1.0, 1.0)
    assert data.train.dtype == torch.float32
    assert data.train_labels.dtype == torch.int64
    labels = torch.cat([data.train_labels, data.val_labels, data.test_labels])
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(42))
    assert labels.tolist() == load_digits().target[order.numpy()].tolist()


def test_unknown_images_have_close_matches():
    """A misspelt dataset is answered with the right one."""
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        load_images("digit")


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_training_is_the_textbook_loop(images, optimizer):
    """Weights and running means equal those of a loop written out, with a smaller last batch and unfused optimizers."""
    grid = {"optimizer": [optimizer], "lr": [1e-2], "weight_decay": [1e-2], "init": ["kaiming_normal"]}
    recipe = Recipe(grid=grid, seeds=[5], n_epochs=2, batch_size=10)
    settings = recipe.models()[0]
    module = initial_module(recipe, settings, 1)
    if optimizer == "adam":
        steps = torch.optim.Adam(module.parameters(), lr=1e-2, weight_decay=1e-2, fused=False)
    else:
        steps = torch.optim.SGD(module.parameters(), lr=1e-2, momentum=0.9, weight_decay=1e-2, fused=False)
    orders = batch_orders(settings, 45)
    for _ in range(2):
        losses, right, order = [], 0, next(orders)
        assert sorted(order.tolist()) == list(range(45))
        for rows in order.split(10):
            logits = functional.log_softmax(module(images.train[rows]), 1)
            loss = functional.nll_loss(logits, images.train_labels[rows])
            steps.zero_grad()
            loss.backward()
            steps.step()
            losses += [loss.item()] * len(rows)
            right += int((logits.argmax(1) == images.train_labels[rows]).sum())
    trained = train_model(recipe, settings, images)
    expected = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy()
    assert trained.weights.dtype == np.float32
    np.testing.assert_allclose(trained.weights[-1], expected, rtol=1e-4, atol=1e-5)
    measured = dict(zip(METRICS, trained.metrics[-1], strict=True))
    assert measured["train_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert measured["train_acc"] == pytest.approx(right / 45, abs=1e-9)
    with torch.no_grad():
        logits = module(images.test)
    assert measured["test_loss"] == pytest.approx(functional.cross_entropy(logits, images.test_labels).item(), rel=1e-4)
    assert measured["test_acc"] == pytest.approx((logits.argmax(1) == images.test_labels).double().mean().item())


def test_epoch_zero_is_the_untrained_network_evaluated(images):
    """The first state is the initialisation, and its training loss is that of evaluation, without dropout."""
    recipe = Recipe(grid={"dropout": [0.5]}, seeds=[1], n_epochs=0)
    settings = recipe.models()[0]
    trained = train_model(recipe, settings, images)
    module = initial_module(recipe, settings, 1).eval()
    assert np.array_equal(trained.weights[0], torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy())
    loss = functional.cross_entropy(module(images.train), images.train_labels).item()
    assert trained.metrics[0][METRICS.index("train_loss")] == pytest.approx(loss, rel=1e-5)


def test_checkpoints_do_not_change_the_training(images):
    """A state is the same whichever other epochs are kept, and however many follow."""
    recipe = Recipe(grid={"dropout": [0.5]}, seeds=[1], n_epochs=3)
    settings = recipe.models()[0]
    every = train_model(recipe, settings, images)
    only = train_model(replace(recipe, n_epochs=2, checkpoint_epochs=[2]), settings, images)
    assert np.array_equal(every.weights[2], only.weights[0])
    assert np.array_equal(every.metrics[2], only.metrics[0])


def test_seeds_and_streams_are_their_own(images):
    """Another seed is another start and order; dropout shifts neither start nor order."""
    recipe = Recipe(grid={"dropout": [0.0, 0.5]}, seeds=[1, 2], n_epochs=0)
    plain_1, plain_2, dropped_1, _ = recipe.models()
    starts = [train_model(recipe, settings, images).weights[0] for settings in (plain_1, plain_2, dropped_1)]
    assert not np.array_equal(starts[0], starts[1])
    assert np.array_equal(starts[0], starts[2])
    orders = [next(batch_orders(settings, 45)).tolist() for settings in (plain_1, plain_2, dropped_1)]
    assert orders[0] != orders[1]
    assert orders[0] == orders[2]


def test_training_leaves_the_global_state_alone(images):
    """Neither torch's nor numpy's global generator, nor torch's number of threads, is another after a training."""
    recipe = Recipe(grid={"dropout": [0.5]}, seeds=[1], n_epochs=1)
    threads = torch.get_num_threads()
    torch.manual_seed(11)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = train_model(recipe, recipe.models()[0], images)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.get_num_threads() == threads
    torch.manual_seed(12)
    assert np.array_equal(train_model(recipe, recipe.models()[0], images).weights, first.weights)


def test_a_diverged_model_is_kept_as_it_is(images):
    """A model whose weights are no longer finite keeps its rows, and its later states repeat the first such one."""
    grid = {"optimizer": ["sgd"], "activation": ["relu"], "init": ["normal"], "lr": [1e6]}
    recipe = Recipe(grid=grid, seeds=[1], n_epochs=4)
    trained = train_model(recipe, recipe.models()[0], images)
    assert trained.weights.shape == (5, 2464)
    assert not np.isfinite(trained.weights[-1]).all()
    assert np.isfinite(trained.weights[0]).all()
    assert np.array_equal(trained.weights[-1], trained.weights[-2], equal_nan=True)


# -- architectures of one's own ----------------------------------------------------------------------------------------


def test_an_own_architecture_is_trained_and_built_again(monkeypatch, tmp_path):
    """With buffers and torch's own dropout: the same zoo twice, its networks, and a remedy where it is unknown."""
    monkeypatch.setattr(registration, "_REGISTERED", {})

    def build(channels, n_classes, activation, dropout):
        convolution = [torch.nn.Conv2d(channels, 4, 5, stride=4), torch.nn.BatchNorm2d(4), torch.nn.ReLU()]
        return torch.nn.Sequential(
            *convolution, torch.nn.Flatten(), torch.nn.Dropout(dropout), torch.nn.Linear(144, n_classes)
        )

    register_architecture("own", build)
    grid = {"dropout": [0.5], "schedule": ["constant", "onecycle"]}
    recipe = Recipe(architecture="own", grid=grid, seeds=[1], n_epochs=1, batch_size=100, name="tiny")
    before = torch.get_rng_state()
    zoo = make_zoo(recipe, out=tmp_path / "zoo")
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(make_zoo(recipe).data, zoo.data)
    assert zoo.properties["schedule"].tolist() == ["constant", "onecycle"] * 2
    module = zoo.module(3)
    assert int(module[1].num_batches_tracked) == 11
    images = load_images("digits")
    with torch.no_grad():
        right = (module(images.test).argmax(1) == images.test_labels).double().mean()
    assert zoo.properties["test_acc"][3] == pytest.approx(float(right))
    registration._REGISTERED.clear()
    with pytest.raises(ValueError, match=r"'own', which this process does not know; register it first"):
        zoo.module(0)


def test_batch_normalisation_starts_as_torchs():
    """Weights follow the scheme, the bias of the last layer is 0.01, and what normalises changes nothing at first."""
    module = build_module("resnet18", channels=3, n_classes=100, activation="relu")
    initialise(module, "normal", torch.Generator().manual_seed(0))
    state = module.state_dict()
    assert WeightLayout.from_state_dict(state) == WeightLayout.from_architecture("resnet18", n_classes=100)
    assert float(state["layer4.1.conv2.weight"].std()) == pytest.approx(1, rel=0.01)
    assert bool((state["fc.bias"] == INITIAL_BIAS).all())
    for name, start in (
        ("weight", 1),
        ("bias", 0),
        ("running_mean", 0),
        ("running_var", 1),
        ("num_batches_tracked", 0),
    ):
        assert bool((state[f"layer2.0.downsample.1.{name}"] == start).all()), name
    assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 100)


def test_images_are_evaluated_in_pieces(monkeypatch, images):
    """What is measured does not hang on how many images are looked at together."""
    recipe = Recipe(seeds=[1], n_epochs=0)
    whole = train_model(recipe, recipe.models()[0], images)
    monkeypatch.setattr("zoobench.generators.training._EVALUATED_AT_ONCE", 7 * 784)
    np.testing.assert_allclose(train_model(recipe, recipe.models()[0], images).metrics, whole.metrics, rtol=1e-6)


# -- whole zoos --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_zoo():
    """The zoo that the tests below compare with."""
    return make_zoo(TINY)


@pytest.mark.compiler
def test_a_zoo_has_every_state_in_order_with_its_properties(tiny_zoo):
    """Rows are in (epoch, model) order, and each carries what it was trained with and what was measured."""
    table = tiny_zoo.properties
    assert tiny_zoo.data.shape == (16, 2464)
    assert table["epoch"].tolist() == [0] * 8 + [1] * 8
    names = [model.name for model in TINY.models()]
    assert names[0] == "activation=tanh,dropout=0.0,seed=1"
    assert list(table["model"].cat.categories) == names
    assert table["model"].astype(str).tolist() == names * 2
    assert table["activation"].tolist() == (["tanh"] * 4 + ["relu"] * 4) * 2
    assert table["dropout"].tolist() == [0.0, 0.0, 0.5, 0.5] * 4
    assert table["seed"].tolist() == [1, 2] * 8
    assert set(table["optimizer"]) == {"adam"}
    np.testing.assert_allclose(table["ggap"], table["train_acc"] - table["test_acc"])
    (model,) = train_models(TINY, TINY.models()[2:3], load_images("digits"))
    assert np.array_equal(tiny_zoo.data[2::8], model.weights)
    assert np.array_equal(table.loc[2::8, list(METRICS)].to_numpy(), model.metrics)


def test_a_zoo_of_the_registry_gets_its_card_and_no_other_does():
    """The card tells what the registry's recipe makes: a recipe that only has its name does not get it."""
    recipe = find_recipe("digits_cnn_s_seed")
    assert population._card(recipe) == read_cards()["digits_cnn_s_seed"].to_dict()
    assert population._card(replace(recipe, seeds=[1])) is None
    assert population._card(replace(recipe, name="mine")) is None


def test_neither_jobs_nor_neighbours_change_a_model(tiny_zoo, tmp_path):
    """Two processes, a folder, and other models beside it give the same bits."""
    recipe = replace(TINY, grid={"activation": ["tanh", "gelu"], "dropout": [0.5], "lr": [1e-3, 3e-4]}, seeds=[2])
    zoo = make_zoo(recipe, n_jobs=2, out=tmp_path / "zoo")
    alike = ((zoo.properties["lr"] == 3e-4) & (zoo.properties["activation"] == "tanh")).to_numpy()
    model = TINY.models()[3].name
    assert np.array_equal(zoo.data[alike], tiny_zoo.data[(tiny_zoo.properties["model"] == model).to_numpy()])


def test_a_killed_run_goes_on_where_it_was(tiny_zoo, tmp_path):
    """After kill -9, what was finished is not trained again, and the zoo is that of an uninterrupted run."""
    out = tmp_path / "zoo"
    # The second chunk never ends: the kill meets a run with four finished models and four in work.
    script = (
        "import time\n"
        "from zoobench.generators import Recipe, engine, population\n"
        "real, calls = engine.train_models, []\n"
        "def slow(*args):\n"
        "    calls.append(1)\n"
        "    return real(*args) if len(calls) < 2 else time.sleep(600)\n"
        "engine.train_models = slow\n"
        f"population.make_zoo(Recipe.from_dict({TINY.to_dict()!r}), out={str(out)!r})\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(finished := sorted(out.glob(".models/*.npz"))) < 4 and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(finished) == 4
    assert not is_zoo(out)
    trained: list[str] = []
    zoo = _make_counted(TINY, out, trained)
    assert trained == [model.name for model in TINY.models()][4:]
    assert np.array_equal(zoo.data, tiny_zoo.data)
    assert zoo.properties.equals(tiny_zoo.properties)
    assert not (out / ".models").exists()


def _make_counted(recipe: Recipe, out: Path, trained: list[str], **options: bool):
    """make_zoo, which adds the name of each model that it trains to a list."""
    real = population._train_chunk

    def counted(recipe, models, *others):
        trained.extend(model.name for model in models)
        return real(recipe, models, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(population, "_train_chunk", counted)
        return make_zoo(recipe, out=out, **options)


@pytest.mark.compiler
def test_damaged_and_foreign_parts_are_trained_again(tiny_zoo, tmp_path):
    """A finished model is taken only if it is whole and of the same settings."""
    parts = tmp_path / "zoo" / ".models"
    parts.mkdir(parents=True)
    models = TINY.models()
    table = tiny_zoo.properties[list(METRICS)].to_numpy()
    results = [TrainedModel(np.array(tiny_zoo.data[i::8]), table[i::8]) for i in range(8)]
    for model, result in zip(models, results, strict=True):
        write_part(parts, TINY, model, result, "native")
    paths = [part_path(parts, model) for model in models]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) // 2])
    middle = bytearray(paths[1].read_bytes())
    middle[len(middle) // 2] ^= 1
    paths[1].write_bytes(middle)
    write_part(parts, replace(TINY, batch_size=100), models[4], results[0], "native")
    trained: list[str] = []
    zoo = _make_counted(TINY, tmp_path / "zoo", trained)
    assert trained == [models[i].name for i in (0, 1, 4)]
    assert np.array_equal(zoo.data, tiny_zoo.data)


def test_a_complete_zoo_is_returned_and_another_recipe_is_refused(tmp_path):
    """The same recipe finds its zoo, resume=False trains it anew, and no zoo is overwritten by another."""
    recipe = Recipe(seeds=[1], n_epochs=1, batch_size=500, name="one")
    out = tmp_path / "zoo"
    first = make_zoo(recipe, out=out)
    trained: list[str] = []
    assert np.array_equal(_make_counted(recipe, out, trained).data, first.data)
    assert trained == []
    assert np.array_equal(_make_counted(recipe, out, trained, resume=False).data, first.data)
    assert trained == ["seed=1"]
    with pytest.raises(ValueError, match="another recipe"):
        make_zoo(replace(recipe, seeds=[2]), out=out)
    assert read_zoo(out).recipe == recipe.to_dict()


def test_a_zoo_that_is_being_replaced_is_not_taken_for_the_new_one(tmp_path):
    """resume=False that was interrupted, and called again without it: that run goes on, beside the old zoo."""
    recipe = Recipe(grid={"activation": ["tanh", "relu"]}, seeds=[1], n_epochs=1, batch_size=500, name="two")
    out, trained = tmp_path / "zoo", []
    first = make_zoo(recipe, out=out)

    def interrupted(recipe, models, *others):
        if trained:
            raise KeyboardInterrupt
        trained.extend(models)
        return real(recipe, models, *others)

    real = population._train_chunk
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(population, "_train_chunk", interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_zoo(recipe, out=out, resume=False)
    assert np.array_equal(load_zoo(out).data, first.data)
    trained.clear()
    assert np.array_equal(_make_counted(recipe, out, trained).data, first.data)
    assert trained == ["activation=relu,seed=1"]
    assert np.array_equal(_make_counted(recipe, out, trained).data, first.data)
    assert len(trained) == 1
    assert sorted(file.name.partition("-")[0] for file in out.iterdir() if not file.name.endswith("lock")) == [
        "properties", "weights", "zoo.json",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore:zoo 'wild'. states left out")
def test_diverged_models_are_named_and_listed(tmp_path):
    """Of a run in memory, in several jobs, gone on with or found complete: one warning, and a list in zoo.json."""
    grid = {"optimizer": ["sgd"], "activation": ["relu", "tanh"], "init": ["kaiming_normal"], "lr": [1e-3, 1e6]}
    recipe = Recipe(grid=grid, seeds=[1, 2], n_epochs=1, batch_size=200, checkpoint_epochs=[1], name="wild")
    wild = [model.name for model in recipe.models() if "lr=1000000.0" in model.name and "relu" in model.name]
    said = "^2 of 8 models of wild diverged: 'activation=relu,lr=1000000.0,seed=1', 'activation=relu,.*seed=2'; their"
    with pytest.warns(UserWarning, match=said):
        zoo = make_zoo(recipe)
    assert zoo.to_contents().provenance["diverged"] == wild
    assert set(zoo.properties["model"].astype(str)).isdisjoint(wild)
    out = tmp_path / "zoo"
    with pytest.MonkeyPatch.context() as patch, joblib.parallel_config("threading", n_jobs=2):
        patch.setattr(population, "write_zoo", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            make_zoo(recipe, out=out)
    trained: list[str] = []
    for _ in ("what is finished is put together", "what is there is returned"):
        with pytest.warns(UserWarning, match=said) as caught:
            _make_counted(recipe, out, trained)
        assert sum("diverged" in str(warning.message) for warning in caught) == 1
        assert read_index(out)["provenance"]["diverged"] == wild
    assert trained == []


def _interrupted(*_):
    raise KeyboardInterrupt


def test_only_the_first_of_many_diverged_models_are_named(recwarn):
    """A warning is one sentence, however many there are; where there are none, nothing is said or listed."""
    recipe = Recipe(seeds=range(5), n_epochs=0, name="wild")
    population._tell_of_diverged({"diverged": [model.name for model in recipe.models()]}, recipe)
    (warning,) = recwarn.list
    assert "5 of 5 models of wild diverged: 'seed=0', 'seed=1', 'seed=2' and 2 more; their" in str(warning.message)
    assert "diverged" not in make_zoo(recipe).to_contents().provenance
    assert len(recwarn.list) == 1


def test_folders_with_something_else_are_refused_before_the_training(tmp_path):
    """Nothing is trained, and nothing written, where the zoo could not be kept."""
    (tmp_path / "notes.txt").write_text("mine")
    trained: list[str] = []
    with pytest.raises(FileExistsError, match=r"notes\.txt"):
        _make_counted(TINY, tmp_path, trained)
    with pytest.raises(FileExistsError, match="is a file"):
        _make_counted(TINY, tmp_path / "notes.txt", trained)
    assert trained == []
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_two_runs_do_not_train_into_one_folder(tmp_path):
    """The second is told so at once."""
    with training_into(tmp_path / "zoo"), pytest.raises(RuntimeError, match="another process"):
        make_zoo(TINY, out=tmp_path / "zoo")


def test_devices_that_are_not_there_are_named():
    """A device is known and present, or a clear error."""
    with pytest.raises(ValueError, match="unknown"):
        make_zoo(TINY, device="gpu")
    with pytest.raises(ValueError, match="cannot compute"):
        make_zoo(TINY, device="meta")


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    """Asking for CUDA on a machine without it says so before anything is trained."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="not available"):
        make_zoo(TINY, device="cuda")
