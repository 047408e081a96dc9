"""Recipes: what trains a zoo, as data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoobench.errors import ZooFormatError
from zoobench.generators.recipes import CHOICES, DEFAULT_GRID, RECIPE_FOLDER, RandomSeeds, Recipe, find_recipe

grids = st.fixed_dictionaries(
    {},
    optional={
        **{axis: st.lists(st.sampled_from(values), min_size=1, unique=True) for axis, values in CHOICES.items()},
        "lr": st.lists(st.sampled_from([1e-4, 1e-3, 1e-2]), min_size=1, unique=True),
        "dropout": st.lists(st.sampled_from([0, 0.3, 0.5]), min_size=1, unique=True),
        "weight_decay": st.lists(st.sampled_from([0, 1e-3, 0.1]), min_size=1, unique=True),
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


def test_the_bundled_recipes_are_what_their_zoos_were_trained_with():
    """Number of models and states of the two bundled zoos."""
    assert {path.stem for path in Path(RECIPE_FOLDER).glob("*.toml")} == {"digits_cnn_s_seed", "digits_cnn_s_hyp_rand"}
    seed, hyp_rand = find_recipe("digits_cnn_s_seed"), find_recipe("digits_cnn_s_hyp_rand")
    assert (seed.n_models, seed.n_states, seed.epochs) == (200, 600, (5, 25, 50))
    assert (hyp_rand.n_models, hyp_rand.n_states, hyp_rand.epochs) == (256, 1280, (5, 10, 20, 30, 50))
    assert find_recipe(seed) is seed


def test_recipes_need_no_torch():
    """Recipes are data: they import, and count their models, without torch."""
    code = (
        "import sys; from zoobench.generators import Recipe, RandomSeeds;"
        "assert Recipe(seeds=RandomSeeds(2)).n_models == 2; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
