"""Recipes: what trains a zoo, as data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoobench.datasets_registry.cards import Card, read_cards
from zoobench.errors import ZooFormatError
from zoobench.generators import register_architecture, registration
from zoobench.generators.recipe_checks import CHOICES, DEFAULT_GRID, EXTRA_AXES
from zoobench.generators.recipes import RECIPE_FOLDER, RandomSeeds, Recipe, find_recipe

grids = st.fixed_dictionaries(
    {},
    optional={
        **{axis: st.lists(st.sampled_from(values), min_size=1, unique=True) for axis, values in CHOICES.items()},
        "lr": st.lists(st.sampled_from([1e-4, 1e-3, 1e-2]), min_size=1, unique=True),
        "dropout": st.lists(st.sampled_from([0, 0.3, 0.5]), min_size=1, unique=True),
        "weight_decay": st.lists(st.sampled_from([0, 1e-3, 0.1]), min_size=1, unique=True),
        "momentum": st.lists(st.sampled_from([0.0, 0.9]), min_size=1, max_size=1),
        "batch_size": st.lists(st.sampled_from([1, 10, 64]), min_size=1, unique=True),
    },
)
seeds = st.one_of(
    st.integers(1, 4).map(RandomSeeds), st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4, unique=True)
)


@given(grid=grids, seeds=seeds)
def test_every_model_is_counted_and_has_a_name_of_its_own(grid, seeds):
    """n_models and n_states are what is trained; names are unique, since the split hangs on them."""
    recipe = Recipe(grid=grid, seeds=seeds, n_epochs=3, checkpoint_epochs=[0, 3])
    models = recipe.models()
    assert len(models) == recipe.n_models
    assert recipe.n_states == 2 * recipe.n_models
    assert len({model.name for model in models}) == len(models)


@given(grid=grids, seeds=seeds)
def test_plain_data_gives_the_same_recipe(grid, seeds):
    """to_dict and from_dict lose nothing, so a zoo's recipe can be trained again."""
    recipe = Recipe(grid=grid, seeds=seeds, n_epochs=3, name="some")
    again = Recipe.from_dict(recipe.to_dict())
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert again.models() == recipe.models()


def test_models_stand_in_canonical_order_whatever_the_order_of_the_grid():
    """Axes vary in canonical order, the seeds innermost; a name lists the axes that vary and the seed."""
    one = Recipe(grid={"lr": [1e-3, 1e-2], "activation": ["relu", "tanh"], "dropout": [0.5]}, seeds=[7, 3])
    other = Recipe(grid={"dropout": [0.5], "activation": ["relu", "tanh"], "lr": [1e-3, 1e-2]}, seeds=[7, 3])
    assert one.models() == other.models()
    assert [model.name for model in one.models()][:3] == [
        "activation=relu,lr=0.001,seed=7",
        "activation=relu,lr=0.001,seed=3",
        "activation=relu,lr=0.01,seed=7",
    ]
    assert one.models()[0].hyperparameters == {
        "activation": "relu",
        "init": "uniform",
        "optimizer": "adam",
        "dropout": 0.5,
        "lr": 1e-3,
        "weight_decay": 1e-3,
    }


def test_axes_that_are_not_named_take_the_defaults():
    """A recipe without a grid is the Model Zoos' seed population."""
    recipe = Recipe()
    assert recipe.grid == DEFAULT_GRID
    assert recipe.n_models == 40
    assert recipe.epochs == tuple(range(11))


def test_random_seeds_of_a_combination_do_not_hang_on_the_others():
    """Adding a combination, or asking for more seeds, changes no other model."""

    def trained(activations, n):
        recipe = Recipe(grid={"activation": activations}, seeds=RandomSeeds(n))
        return {(m.hyperparameters["activation"], m.seed) for m in recipe.models()}

    few, more_axes, more_seeds = (
        trained(["tanh", "relu"], 2),
        trained(["gelu", "tanh", "relu"], 2),
        trained(["tanh", "relu"], 5),
    )
    assert len(few) == 4
    assert len({seed for _, seed in few}) == 4
    assert few < more_axes
    assert few < more_seeds


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "digit"}, "did you mean 'digits'"),
        ({"architecture": "cnn_xl"}, "cnn_xl"),
        ({"architecture": "cnn_l"}, "channels"),
        ({"grid": {"learning_rate": [1]}}, "no axis 'learning_rate'"),
        ({"grid": {"activation": ["tan"]}}, "did you mean 'tanh'"),
        ({"grid": {"activation": "tanh"}}, "must be a list"),
        ({"grid": {"activation": []}}, "'activation' is empty"),
        ({"grid": {"activation": ["tanh", "tanh"]}}, "twice"),
        ({"grid": {"lr": [0.0]}}, "lr must be above 0"),
        ({"grid": {"lr": [float("nan")]}}, "lr must be a finite number"),
        ({"grid": {"weight_decay": [-1e-3]}}, "weight_decay must be 0 or above"),
        ({"grid": {"dropout": [1.0]}}, "dropout must be from 0, below 1"),
        ({"grid": {"dropout": [True]}}, "dropout must be a finite number"),
        ({"grid": ["lr"]}, "grid must map"),
        ({"grid": {"momentun": [0.9]}}, "did you mean 'momentum'"),
        ({"grid": {"momentum": [1.0]}}, "momentum must be from 0, below 1"),
        ({"grid": {"momentum": [0.0, 0.9]}}, "several values of momentum need optimizer"),
        ({"grid": {"momentum": [0.0, 0.9], "optimizer": ["sgd"], "schedule": ["onecycle"]}}, "exclude each other"),
        ({"grid": {"batch_size": [0]}}, "batch_size must be a whole number of at least 1"),
        ({"grid": {"batch_size": [10.0]}}, "batch_size must be a whole number"),
        ({"grid": {"batch_size": [10, 10]}}, "twice"),
        ({"grid": {"schedule": ["onecylce"]}}, "did you mean 'onecycle'"),
        ({"architecture": "resnet18"}, "channels"),
        ({"dataset": "cifar100"}, "classes"),
        ({"dataset": "cifar10", "architecture": "resnet18", "grid": {"dropout": [0.5]}}, "has no dropout"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": [1, 2, 1]}, "seed 1 is given twice"),
        ({"seeds": [-1]}, "not -1"),
        ({"seeds": [1.5]}, "not 1.5"),
        ({"seeds": 3}, "RandomSeeds"),
        ({"n_epochs": -1}, "n_epochs"),
        ({"n_epochs": 2.0}, "n_epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"checkpoint_epochs": []}, "checkpoint_epochs is empty"),
        ({"checkpoint_epochs": [11]}, "11 is not one of the epochs 0 to 10"),
        ({"checkpoint_epochs": [1, 1]}, "twice"),
        ({"name": ""}, "name"),
    ],
)
def test_what_makes_no_recipe_is_refused_with_its_name(settings, message):
    """Each wrong setting is a ValueError that names the setting and what is expected."""
    with pytest.raises(ValueError, match=message):
        Recipe(**settings)


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_random_seeds_need_a_positive_number(n):
    """RandomSeeds(n) asks for a whole number of seeds."""
    with pytest.raises(ValueError, match="RandomSeeds"):
        RandomSeeds(n)


def test_a_toml_file_is_a_recipe(tmp_path):
    """Every setting can be written in TOML; the file's stem is the name unless it gives one."""
    path = tmp_path / "mine.toml"
    path.write_text("seeds = {first = 2, last = 4}\nn_epochs = 2\ncheckpoint_epochs = [2, 0]\n[grid]\nlr = [0.01]\n")
    recipe = Recipe.from_toml(path)
    assert recipe == Recipe(seeds=[2, 3, 4], n_epochs=2, checkpoint_epochs=[0, 2], grid={"lr": [0.01]}, name="mine")
    path.write_text('seeds = {random = 3}\nname = "other"\n')
    assert Recipe.from_toml(path) == Recipe(seeds=RandomSeeds(3), name="other")
    assert find_recipe(path) == find_recipe(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = [1", "is not a recipe"),
        ("epochs = 3", "no setting 'epochs'; did you mean 'n_epochs'"),
        ("seeds = {count = 3}", "seeds must be"),
        ("checkpoint_epochs = {first = 1}", "checkpoint_epochs must be"),
        ('n_epochs = "many"', "n_epochs"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(tmp_path, text, message):
    """The error names the file and what is wrong in it."""
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ZooFormatError, match=message) as caught:
        Recipe.from_toml(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    """A path that leads nowhere is no name of a bundled recipe either."""
    with pytest.raises(FileNotFoundError, match=r"nowhere\.toml"):
        find_recipe(tmp_path / "nowhere.toml")


def test_an_unknown_name_has_close_matches():
    """A misspelt name is answered with the right one."""
    with pytest.raises(ValueError, match="did you mean 'digits_cnn_s_seed'"):
        find_recipe("digits_cnn_s_sed")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("small_cnn_zoo_mnist", r"'small_cnn_zoo_mnist' has none, because a recipe is a grid .* drawn at random.* fet"),
        ("mnist_small_cnn", "no recipe is named 'mnist_small_cnn': zoo 'small_cnn_zoo_mnist' has none, because a rec"),
        ("sane_cifar10_cnn_sample", "not all published; zoobench fetch sane_cifar10_cnn_sample brings the zoo itself"),
        ("hyper_representations_2022_mnist", "not all published"),
        ("cnn_wild_park", "not all published$"),
        ("mnist_cnn_s_sparse", "zoo 'mnist_cnn_s_seed_sparse' has none.* by zoobench sparsify mnist_cnn_s_seed$"),
        ("mnist_cnn", "did you mean 'mnist_cnn_s_"),
        ("mnist_cnn_s_sed", "did you mean 'mnist_cnn_s_seed'"),
        ("mnist_cnn_s", "did you mean 'mnist_cnn_s_seed'"),
    ],
)
def test_a_zoo_without_a_recipe_is_told_from_a_misspelt_one(name, message):
    """One sentence says why there is no recipe; a name that is close to a recipe's is answered with that."""
    with pytest.raises(ValueError, match=message):
        find_recipe(name)


def test_the_bundled_recipes_are_what_their_zoos_were_trained_with():
    """Number of models and states of the two bundled zoos."""
    seed, hyp_rand = find_recipe("digits_cnn_s_seed"), find_recipe("digits_cnn_s_hyp_rand")
    assert (seed.n_models, seed.n_states, seed.epochs) == (200, 600, (5, 25, 50))
    assert (hyp_rand.n_models, hyp_rand.n_states, hyp_rand.epochs) == (256, 1280, (5, 10, 20, 30, 50))
    assert find_recipe(seed) is seed


# -- the published zoos ------------------------------------------------------------------------------------------------

WITH_RECIPE = {name: card for name, card in read_cards().items() if card.recipe is not None}
PUBLISHED = [card for card in WITH_RECIPE.values() if card.bundled is None]


@pytest.mark.parametrize("card", WITH_RECIPE.values(), ids=WITH_RECIPE)
def test_a_zoos_recipe_says_what_its_card_says(card: Card):
    """Images, network, grid, seeds and epochs: what was published can be trained again, and is called the same."""
    recipe = find_recipe(card.recipe)
    assert recipe.name == card.recipe == card.name
    assert (recipe.dataset, recipe.architecture) == (card.dataset, card.architecture)
    assert (recipe.n_models, recipe.n_states, recipe.epochs) == (card.n_models, card.n_states, card.epochs)
    assert {axis: sorted(values) for axis, values in recipe.grid.items() if axis in card.grid} == {
        axis: sorted(values) for axis, values in card.grid.items()
    }
    if card.n_weights is not None:
        assert recipe.layout.n_parameters == card.n_weights
    if card.variant.startswith("hyp"):
        per_combination = recipe.n_models // len({str(model.hyperparameters) for model in recipe.models()})
        assert recipe.seeds == (RandomSeeds(per_combination) if "rand" in card.variant else tuple(range(1, 11)))


def test_every_zoo_of_the_paper_has_its_recipe():
    """24 populations of small networks, three of ResNet-18, and EuroSAT; no recipe is without a card."""
    assert {path.stem for path in Path(RECIPE_FOLDER).glob("*.toml")} == set(WITH_RECIPE)
    by_architecture = [card.architecture for card in PUBLISHED if card.dataset != "eurosat"]
    counts = [by_architecture.count(architecture) for architecture in ("cnn_s", "cnn_l", "resnet18")]
    assert (counts, len(PUBLISHED)) == ([18, 6, 3], 28)


def test_published_batches_epochs_and_schedules():
    """Small networks have batches of ten and 50 epochs, ResNet-18 larger ones and a cycle of the learning rate."""
    for card in PUBLISHED:
        recipe = find_recipe(card.recipe)
        if recipe.architecture == "resnet18":
            assert recipe.grid["schedule"] == ["onecycle"]
            assert (recipe.batch_size, recipe.n_epochs) == ((256, 50) if recipe.dataset == "cifar10" else (128, 60))
        else:
            assert not set(recipe.grid) & set(EXTRA_AXES)
            assert (recipe.batch_size, recipe.n_epochs) == (10, 50)


# -- axes that not every zoo has ---------------------------------------------------------------------------------------


def test_axes_that_are_not_named_leave_names_seeds_and_data_as_they_were():
    """Frozen: recipes without the later axes are the ones that stand in the zoo.json of zoos that exist."""
    recipe = Recipe(grid={"lr": [1e-3, 1e-2]}, seeds=RandomSeeds(2), n_epochs=1)
    assert [model.name for model in recipe.models()] == [
        "lr=0.001,seed=2040379018",
        "lr=0.001,seed=693540007",
        "lr=0.01,seed=507495067",
        "lr=0.01,seed=1766923668",
    ]
    assert list(recipe.to_dict()["grid"]) == list(DEFAULT_GRID)
    assert [list(model.hyperparameters) for model in recipe.models()] == [list(DEFAULT_GRID)] * 4
    assert recipe.training_values(recipe.models()[0]) == {
        **recipe.models()[0].hyperparameters,
        "momentum": 0.9,
        "batch_size": 10,
        "schedule": "constant",
    }


def test_axes_that_are_named_are_axes_as_the_others_are():
    """They vary, stand in names and settings, and give fresh seeds."""
    grid = {"schedule": ["onecycle", "constant"], "batch_size": [5, 10], "optimizer": ["sgd"], "momentum": [0.5]}
    recipe = Recipe(grid=grid, seeds=RandomSeeds(1), batch_size=7)
    models = recipe.models()
    assert list(recipe.grid) == [*DEFAULT_GRID, *EXTRA_AXES]
    assert [model.name.rpartition(",")[0] for model in models] == [
        "batch_size=5,schedule=onecycle",
        "batch_size=5,schedule=constant",
        "batch_size=10,schedule=onecycle",
        "batch_size=10,schedule=constant",
    ]
    assert len({model.seed for model in models}) == 4
    values = [recipe.training_values(model) for model in models]
    assert [(v["momentum"], v["batch_size"]) for v in values] == [(0.5, 5), (0.5, 5), (0.5, 10), (0.5, 10)]


# -- architectures of one's own ----------------------------------------------------------------------------------------


@pytest.fixture
def own_architecture(monkeypatch):
    """A linear network that is registered as "line" for the length of a test."""
    from torch import nn

    monkeypatch.setattr(registration, "_REGISTERED", {})

    def build(channels, n_classes, activation, dropout):
        return nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(channels * 784, n_classes))

    register_architecture("line", build, channels=1)


def test_an_own_architecture_has_the_layout_of_its_module(own_architecture):
    """Its layout is that of the module's state_dict; channels that it does not take are refused."""
    recipe = Recipe(architecture="line")
    assert [tensor.name for tensor in recipe.layout.tensors] == ["2.weight", "2.bias"]
    assert recipe.layout.n_weights == 7850
    assert recipe.name == "digits_line"
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    with pytest.raises(ValueError, match="'line' takes 1 image channels, not 3"):
        Recipe(dataset="cifar10", architecture="line")


def test_a_recipe_takes_its_architecture_to_other_processes(own_architecture, monkeypatch):
    """Unpickled where the architecture is not registered, it brings it along."""
    import cloudpickle

    sent = cloudpickle.dumps(Recipe(architecture="line"))
    monkeypatch.setattr(registration, "_REGISTERED", {})
    with pytest.raises(ValueError, match=r"unknown architecture 'line'.*register_architecture\(name, build\)"):
        Recipe(architecture="line")
    assert cloudpickle.loads(sent).layout.n_weights == 7850
    assert Recipe(architecture="line").layout.n_weights == 7850


@pytest.mark.parametrize(
    ("name", "build", "message"),
    [
        ("cnn_s", print, "already"),
        ("line", print, "already"),
        (" ", print, "must not be empty"),
        ("other", "module", "must be callable"),
    ],
)
def test_what_is_no_architecture_is_refused(own_architecture, name, build, message):
    """Names that are taken, and what cannot be called."""
    with pytest.raises((ValueError, TypeError), match=message):
        register_architecture(name, build)


def test_what_does_not_build_a_module_is_named(own_architecture):
    """The error comes with the recipe, before anything is trained."""
    register_architecture("nothing", lambda *_: None)
    with pytest.raises(TypeError, match="'nothing' was to build"):
        Recipe(architecture="nothing")


def test_recipes_need_no_torch():
    """Recipes are data: they import, and count their models, without torch."""
    code = (
        "import sys; from zoobench.generators import Recipe, RandomSeeds;"
        "assert Recipe(seeds=RandomSeeds(2)).n_models == 2; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
