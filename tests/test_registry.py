"""Cards: strict, complete, and true of the zoos that they describe."""

from __future__ import annotations

import fnmatch
import math
import re
from urllib.parse import urlsplit

import numpy as np
import pytest

from zoobench.datasets_registry import Card, Source, find_card, read_cards
from zoobench.datasets_registry.cards import ROOT, parse_card
from zoobench.datasets_registry.schema import from_table
from zoobench.datasets_registry.sources import DIRECTORY_HOST, ZENODO
from zoobench.fetch import stored_at
from zoobench.generators.recipes import find_recipe
from zoobench.layout import WeightLayout
from zoobench.properties import HYPERPARAMETERS
from zoobench.store import check_zoo, read_zoo

CARDS = dict(read_cards())
BUNDLED = {name: card for name, card in CARDS.items() if card.bundled}
TRAINED = {name: card for name, card in BUNDLED.items() if card.twin_of is None}
TEXT = (ROOT / "cards" / "digits_cnn_s_seed.toml").read_text(encoding="utf-8")

GRID = ("hyp_rand", "hyp_fix")
ACTIVATIONS = {"tanh", "relu", "sigmoid", "gelu"}
INITS = {"uniform", "normal", "kaiming_uniform", "kaiming_normal"}
#: The small populations of the Model Zoos' paper. Of the seed zoo: initialisation, activation, learning rate and weight
#: decay; of those with a grid: optimizers, learning rates, weight decays, dropouts.
ADAM_SGD = ["adam", "sgd"]
PAPER = {
    ("mnist", "cnn_s"): (
        (2464, "uniform", "tanh", 3e-4, 0.0),
        (2560, ADAM_SGD, [1e-3, 1e-4], [1e-3, 1e-4], [0.0, 0.5]),
    ),
    ("fmnist", "cnn_s"): (
        (2464, "uniform", "tanh", 3e-4, 0.0),
        (2560, ADAM_SGD, [1e-3, 1e-4], [1e-3, 1e-4], [0.0, 0.5]),
    ),
    ("svhn", "cnn_s"): (
        (2464, "uniform", "tanh", 3e-3, 0.0),
        (4320, ["sgd"], [1e-2, 1e-3, 1e-4], [0.0, 1e-3, 1e-1], [0.0, 0.3, 0.5]),
    ),
    ("usps", "cnn_s"): (
        (2464, "uniform", "tanh", 3e-4, 1e-3),
        (2560, ADAM_SGD, [1e-3, 1e-4], [1e-2, 1e-3], [0.0, 0.5]),
    ),
    ("cifar10", "cnn_s"): (
        (2864, "kaiming_uniform", "gelu", 1e-4, 1e-2),
        (1280, ADAM_SGD, [1e-3], [1e-2, 1e-3], [0.0, 0.5]),
    ),
    ("cifar10", "cnn_l"): (
        (10853, "kaiming_uniform", "gelu", 1e-4, 1e-2),
        (1280, ADAM_SGD, [1e-3], [1e-2, 1e-3], [0.0, 0.5]),
    ),
    ("stl10", "cnn_s"): (
        (2864, "kaiming_uniform", "tanh", 1e-4, 1e-3),
        (2560, ADAM_SGD, [1e-3, 1e-4], [1e-2, 1e-3], [0.0, 0.5]),
    ),
    ("stl10", "cnn_l"): (
        (10853, "kaiming_uniform", "tanh", 1e-4, 1e-3),
        (2560, ADAM_SGD, [1e-3, 1e-4], [1e-2, 1e-3], [0.0, 0.5]),
    ),
}
#: Its large ones: dataset: weights, states a model.
RESNETS = {"cifar10": (11_173_962, 50), "cifar100": (11_220_132, 60), "tinyimagenet": (11_271_432, 60)}
#: How the names of zoos begin that are not made of dataset, architecture and variant.
OTHER_FAMILIES = ("sane_", "hyper_representations_", "vit_", "small_cnn_zoo_", "cnn_wild_park")
CNN_CARDS = [CARDS[f"{ds}_{arch}_{variant}"] for ds, arch in PAPER for variant in ("seed", *GRID)]
RESNET_CARDS = [CARDS[f"{ds}_resnet18"] for ds in RESNETS]


@pytest.mark.parametrize("card", TRAINED.values(), ids=TRAINED)
def test_card_agrees_with_its_recipe(card: Card) -> None:
    """Grid, epochs and counts of a card say the same as the recipe that trains the zoo."""
    assert card.recipe == card.name
    recipe = find_recipe(card.recipe)
    assert (recipe.n_models, recipe.n_states) == (card.n_models, card.n_states)
    assert recipe.epochs == card.epochs
    assert {axis: list(values) for axis, values in recipe.grid.items()} == card.grid
    assert card.licence == "CC-BY-4.0"


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_card_agrees_with_itself(card: Card) -> None:
    """Whatever a card knows fits together: name, layout, grid, seeds, recipe, licence and what to cite."""
    if not card.name.startswith(OTHER_FAMILIES):
        stem = f"{card.dataset}_{card.architecture}"
        assert card.name == (stem if card.architecture == "resnet18" else f"{stem}_{card.variant}")
    if card.architecture in ("cnn_s", "cnn_l") and card.n_weights is not None:
        layout = WeightLayout.from_architecture(card.architecture, channels=card.channels)
        assert layout.n_weights == card.n_weights
    if card.grid is not None:
        assert set(card.grid) <= set(HYPERPARAMETERS)
        assert set(card.grid.get("activation", [])) <= ACTIVATIONS
        assert set(card.grid["init"]) <= INITS
        assert set(card.grid.get("optimizer", [])) <= {"adam", "sgd"}
        n_seeds = re.match(r"(?:1 to )?(\d+|one)\b", card.seeds)[1].replace("one", "1")
        assert card.n_models == int(n_seeds) * math.prod(len(values) for values in card.grid.values())
    assert (card.recipe is not None) == (ROOT / "recipes" / f"{card.name}.toml").exists()
    assert card.licence in ("CC-BY-4.0", "unknown")
    assert re.search(r"arXiv \d{4}\.\d{5}|doi 10\.", card.citation)
    assert from_table(Card, card.to_dict(), "the card") == card


def test_the_papers_zoos_are_all_there() -> None:
    """27 zoos with the published counts: 47,360 small models, 50,360 in all; 2,415,360 and 2,585,360 states."""
    for (dataset, architecture), (of_seeds, of_grid) in PAPER.items():
        for variant in ("seed", *GRID):
            card = CARDS[f"{dataset}_{architecture}_{variant}"]
            assert (card.dataset, card.architecture, card.variant) == (dataset, architecture, variant)
            assert (card.n_weights, card.n_models) == (of_seeds[0], 1000 if variant == "seed" else of_grid[0])
            assert card.epochs == tuple(range(51))
            grid = {axis: sorted(values) for axis, values in card.grid.items()}
            if variant == "seed":
                init, activation, lr, weight_decay = ([value] for value in of_seeds[1:])
                optimizer, dropout = ["adam"], [0.0]
            else:
                init, activation = INITS, ACTIVATIONS
                optimizer, lr, weight_decay, dropout = of_grid[1:]
            assert grid == {
                "activation": sorted(activation),
                "init": sorted(init),
                "optimizer": optimizer,
                "lr": sorted(lr),
                "weight_decay": sorted(weight_decay),
                "dropout": dropout,
            }
    for dataset, (n_weights, n_epochs) in RESNETS.items():
        card = CARDS[f"{dataset}_resnet18"]
        assert (card.dataset, card.architecture, card.variant) == (dataset, "resnet18", "seed")
        assert (card.n_weights, card.n_models, card.epochs) == (n_weights, 1000, tuple(range(1, n_epochs + 1)))
        assert card.grid["lr"] == [0.05 if dataset == "cifar10" else 0.1]
        assert (card.grid["optimizer"], card.grid["weight_decay"]) == (["sgd"], [5e-4])
    assert (len(CNN_CARDS), len(CNN_CARDS + RESNET_CARDS)) == (24, 27)
    assert sum(card.n_models for card in CNN_CARDS) == 47_360
    assert sum(card.n_models for card in CNN_CARDS + RESNET_CARDS) == 50_360
    assert sum(card.n_states for card in CNN_CARDS) == 2_415_360
    assert sum(card.n_states for card in CNN_CARDS + RESNET_CARDS) == 2_585_360
    assert {card.licence for card in CNN_CARDS + RESNET_CARDS} == {"CC-BY-4.0"}


def test_twins_and_successors_are_there() -> None:
    """Twins name the zoo that they come from and share its models; every other published family has its cards."""
    twins = {card.name: card for card in CARDS.values() if card.twin_of is not None}
    assert len(twins.keys() - BUNDLED.keys()) == len(PAPER) + 10
    for name, twin in twins.items():
        parent = CARDS[twin.twin_of]
        assert name.startswith(f"{parent.name}_sparse")
        assert twin.variant == name.removeprefix(f"{parent.family}_")
        for field in ("dataset", "architecture", "channels", "n_weights", "grid"):
            assert getattr(twin, field) == getattr(parent, field)
        # Of ours, only some of the models have twins.
        assert twin.n_models == parent.n_models or (twin.bundled and twin.n_models < parent.n_models)
    assert {name for name in twins if "magnitude" in name} == {
        f"eurosat_cnn_s_seed_sparse_magnitude_{percent}" for percent in range(10, 100, 10)
    }
    for prefix, n_cards in (
        ("eurosat_cnn_s_", 11),
        ("sane_", 1),
        ("hyper_representations_2021_", 8),
        ("hyper_representations_2022_", 4),
        ("vit_", 2),
        ("small_cnn_zoo_", 4),
        ("cnn_wild_park", 1),
    ):
        assert sum(name.startswith(prefix) for name in CARDS) == n_cards, prefix
    small = [card for card in CARDS.values() if card.architecture == "small_cnn"]
    assert {card.n_weights for card in small} == {16 * (9 + 1) + 2 * 16 * (16 * 9 + 1) + 10 * (16 + 1)}
    assert sum(card.n_states for card in small) == 269_973 + 270_000 + 270_000 + 269_892


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_sources_are_well_formed(card: Card) -> None:
    """Addresses are addresses; every published zoo has one that can be asked; nothing is said twice or made up."""
    addresses = [source.address for source in card.sources if source.kind != "bundled"]
    assert bool(addresses) == (card.bundled is None)
    for address in addresses:
        parts = urlsplit(address)
        assert parts.scheme == "https"
        assert parts.netloc in ("ai.unisg.ch", "zenodo.org", "doi.org", "storage.googleapis.com")
        assert not set(address) & set("*?[] ")
    for source in card.sources:
        assert type(source) is Source.kinds[source.kind]
        assert from_table(Source, source.to_dict(), "a card's source") == source
        assert source.checksum is None, "no checksum of these files is published where we could read it"
        assert set(source.epochs or ()) <= set(card.epochs or ())
        if source.kind == "directory":
            assert source.address == f"{DIRECTORY_HOST}{source.path}/"
        if source.kind == "zenodo" and source.record is not None:
            assert source.address.startswith(f"{ZENODO}records/{source.record}")
        if source.kind == "zenodo" and source.file is None:
            assert not source.readable
            assert source.note
    assert card.readable == any(source.format != "other" for source in card.sources)
    assert len(set(card.sources)) == len(card.sources)


def test_what_has_no_reader_says_so() -> None:
    """Exactly the families of which no two networks need be alike cannot be read yet."""
    assert {name for name, card in CARDS.items() if not card.readable} == {
        name for name in CARDS if name.startswith(("vit_", "cnn_wild_park"))
    }


def test_patterns_match_the_names_that_are_known() -> None:
    """A pattern for a file whose name is not known takes one of the names of its kind, and none of another."""
    seed, rand, fix = ("cifar_small_seed.zip", "cifar_small_hyp_rand.zip", "cifar_small_hyp_fix.zip")
    names = [seed, rand, fix, *(name.replace("small", "large") for name in (seed, rand, fix)), "index_dict_small.json"]
    names += [f"dataset_{name}".replace(".zip", ".pt") for name in names[:6]]
    for variant, wanted in (("seed", "seed"), ("hyp_rand", "hyp_rand"), ("hyp_fix", "hyp_fix")):
        for size, word in (("s", "small"), ("l", "large")):
            raw, _, preprocessed = CARDS[f"cifar10_cnn_{size}_{variant}"].sources
            assert fnmatch.filter(names, raw.file) == [f"cifar_{word}_{wanted}.zip"]
            assert fnmatch.filter(names, preprocessed.file) == [f"dataset_cifar_{word}_{wanted}.pt"]
    single = ["dataset_mnist_seed.pt", "dataset_mnist_hyp_rand.pt", "dataset_mnist_hyp_fix.pt"]
    for dataset in ("fmnist", "svhn", "usps"):
        for variant, wanted in zip(("seed", "hyp_rand", "hyp_fix"), single, strict=True):
            assert fnmatch.filter(single, CARDS[f"{dataset}_cnn_s_{variant}"].sources[2].file) == [wanted]
    spelt = ["config.json", "tune_zoo_f_mnist_uniform", "tune_zoo_f_mnist_hyperparameter_10_fixed_seeds"]
    for variant, wanted in (("seed", spelt[1]), ("hyp_fix", spelt[2])):
        _, folder, _ = CARDS[f"fmnist_cnn_s_{variant}"].sources
        assert all(fnmatch.filter(spelt, spelling) == [wanted] for spelling in folder.spellings)


@pytest.mark.parametrize("card", BUNDLED.values(), ids=BUNDLED)
def test_bundled_zoo_is_what_its_card_says(card: Card) -> None:
    """Every byte is as it was written; counts, epochs, grid, card and recipe are those of the registry."""
    index = check_zoo(stored_at(card))
    contents = read_zoo(stored_at(card))
    table = contents.properties
    assert (len(table), table["model"].nunique()) == (card.n_states, card.n_models)
    assert tuple(sorted(table["epoch"].unique())) == card.epochs
    assert (table.groupby("model", observed=True).size() == len(card.epochs)).all()
    for axis, values in card.grid.items():
        assert set(table[axis].unique()) == set(values)
    assert index["card"] == card.to_dict()
    if card.twin_of is None:
        assert index["recipe"] == find_recipe(card.recipe).to_dict()
    else:
        assert index["recipe"] is None
        assert index["provenance"]["twins"]["twin_of"] == card.twin_of
        originals = read_zoo(stored_at(CARDS[card.twin_of])).properties["model"].cat.categories
        assert list(table["model"].cat.categories) == list(originals[: card.n_models])
    assert index["name"] == card.name
    assert contents.layout == WeightLayout.from_architecture(card.architecture, channels=card.channels)


def test_bundled_zoos_are_small_and_worth_predicting() -> None:
    """At most 20 MB, and 6 MB of twins; in the hyper-parameter zoo some models fail and most learn: much to tell."""
    for twins, limit in ((False, 20e6), (True, 6e6)):
        cards = [card for card in BUNDLED.values() if (card.twin_of is not None) == twins]
        assert 0 < sum(f.stat().st_size for card in cards for f in card.bundled.iterdir()) <= limit
    table = read_zoo(stored_at(find_card("digits_cnn_s_hyp_rand"))).properties
    last = table.loc[table["epoch"] == 50, "test_acc"]
    assert last.quantile(0.10) < 0.25
    assert last.quantile(0.75) > 0.80
    assert table["test_acc"].quantile(0.75) > 0.60


def test_bundled_twins_are_sparse_and_still_accurate() -> None:
    """More than 70 % of the weights are zero at a median loss of at most three points of accuracy."""
    twins = read_zoo(stored_at(find_card("digits_cnn_s_sparse")))
    seeds = read_zoo(stored_at(find_card("digits_cnn_s"))).properties
    before = seeds[seeds["epoch"] == 50].set_index("model")["test_acc"]
    for epoch in (10, 25):
        rows = twins.properties["epoch"] == epoch
        after = twins.properties[rows].set_index("model")
        assert after["sparsity"].median() > 0.7
        assert before[after.index].median() - after["test_acc"].median() <= 0.03
        weights = twins.layout.mask(roles=["weight"])
        zeros = (twins.weights[rows.to_numpy()][:, weights] == 0).mean(axis=1)
        np.testing.assert_allclose(zeros, after["sparsity"], atol=1e-6)


def test_names_and_variants() -> None:
    """A name without variant means seed; a full name means itself; contradictions and typos are named."""
    assert find_card("digits_cnn_s").name == "digits_cnn_s_seed"
    assert find_card("digits_cnn_s", "hyp_rand") is find_card("digits_cnn_s_hyp_rand")
    assert find_card("digits_cnn_s_seed", "seed").variant == "seed"
    with pytest.raises(ValueError, match=r"unknown zoo 'digit_cnn_s'; did you mean 'digits_cnn_s'"):
        find_card("digit_cnn_s")
    with pytest.raises(ValueError, match=r"unknown zoo 'zzz'; list_zoos\(\)"):
        find_card("zzz")
    with pytest.raises(ValueError, match="unknown variant 'hyp'; known are seed, hyp_rand, hyp_fix"):
        find_card("digits_cnn_s", "hyp")
    with pytest.raises(ValueError, match=r"no variant 'hyp_fix'; it has hyp_rand, seed"):
        find_card("digits_cnn_s", "hyp_fix")
    with pytest.raises(ValueError, match="is the variant 'seed', but variant='hyp_rand'"):
        find_card("digits_cnn_s_seed", "hyp_rand")


def test_names_of_twins_and_of_zoos_without_variants() -> None:
    """A twin is found with and without its zoo's variant; a zoo of one kind only is known by its name alone."""
    for name, variant in (
        ("mnist_cnn_s_seed_sparse", None),
        ("mnist_cnn_s_sparse", None),
        ("mnist_cnn_s_sparse", "seed"),
        ("mnist_cnn_s", "seed_sparse"),
        ("mnist_cnn_s_seed_sparse", "seed_sparse"),
    ):
        assert find_card(name, variant).name == "mnist_cnn_s_seed_sparse"
    assert find_card("eurosat_cnn_s_sparse_magnitude_50").name == "eurosat_cnn_s_seed_sparse_magnitude_50"
    for name in ("cifar10_resnet18", "small_cnn_zoo_mnist", "cnn_wild_park"):
        assert find_card(name).name == name
    assert find_card("cifar10_resnet18", "seed") is find_card("cifar10_resnet18")
    with pytest.raises(ValueError, match="'mnist_cnn_s' has no variant 'hyp_rand_sparse'; it has .*seed_sparse"):
        find_card("mnist_cnn_s_sparse", "hyp_rand")
    with pytest.raises(ValueError, match="'cifar10_resnet18' has no variant 'seed_sparse'; it has seed$"):
        find_card("cifar10_resnet18_sparse")
    with pytest.raises(ValueError, match="is the variant 'seed', but variant='hyp_fix'"):
        find_card("cifar10_resnet18", "hyp_fix")
    with pytest.raises(ValueError, match="did you mean 'mnist_cnn_s_sparse'"):
        find_card("mnist_cnn_sparse")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("licence", "license", "unknown field 'license'; did you mean 'licence'"),
        ('kind = "bundled"', 'kind = "bundled"\npath = "x"', "unknown field 'path'"),
        ("n_models = 200\n", "", "lacks n_models"),
        ("n_models = 200", 'n_models = "200"', "n_models is '200', but int was expected"),
        ("n_models = 200", "n_models = true", "int was expected"),
        ("epochs = [5, 25, 50]", "epochs = [5, 50, 25]", "ascending order"),
        ("epochs = [5, 25, 50]", 'epochs = ["5"]', "int was expected"),
        ('variant = "seed"', 'variant = "seeds"', "variant 'seeds' is unknown; known are"),
        ('name = "digits', 'name = "digitz', "the file must be digitz_cnn_s_seed.toml"),
        ("lr = [0.001]", "lr = 0.001", "list was expected"),
        ("[grid]", "[grid", "no valid TOML"),
        ("[[sources]]", "[sources]", "sources is {'kind': 'bundled'}, but list was expected"),
        ('kind = "bundled"', 'kind = "bundle"', "sources has kind 'bundle'; known are bundled, directory, zenodo, url"),
        ('kind = "bundled"', 'format = "zoo"', "sources lacks kind"),
        ("n_models = 200", "n_models = 0", "n_models is 0, but at least 1"),
        ("epochs = [5, 25, 50]", "epochs = []", "epochs are .*ascending order"),
        ("epochs = [5, 25, 50]", "epochs = { first = 5, lats = 50 }", "first = ..., last = ..."),
        ("epochs = [5, 25, 50]", "epochs = { first = 5, last = 4 }", "epochs are .*ascending order"),
        ("lr = [0.001]", "lr = [0.1, 0.2, 0.3]", "n_models is 200, but a multiple of the grid's 3"),
        ('variant = "seed"', 'variant = "seed"\ntwin_of = "x"', "only a twin has both"),
        ('variant = "seed"', 'variant = "seed_sparse"', "only a twin has both"),
    ],
)
def test_cards_are_strict(old: str, new: str, message: str) -> None:
    """A misspelt, missing, superfluous or wrong field is refused, with the file's name."""
    text = re.sub(r"(?m)^lr = .*$", "lr = [0.001]", TEXT)
    assert old in text
    with pytest.raises(ValueError, match=message) as caught:
        parse_card(text.replace(old, new), where="digits_cnn_s_seed.toml")
    assert "digits_cnn_s_seed.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "directory", "path": "a/b"}, "lacks format"),
        ({"kind": "directory", "format": "zip", "path": "a/b"}, "format 'zip' is unknown; known are zoo, experiment"),
        ({"kind": "directory", "format": "zoo"}, "lacks path"),
        ({"kind": "directory", "format": "zoo", "path": "/a"}, "path is '/a', but a relative path"),
        ({"kind": "directory", "format": "zoo", "path": "a/../b"}, "a relative path"),
        ({"kind": "directory", "format": "zoo", "path": "a", "spellings": ["b/c"]}, "patterns for one folder's name"),
        ({"kind": "directory", "format": "zoo", "path": "a", "doi": "10.5281/zenodo.1"}, "unknown field 'doi'"),
        ({"kind": "zenodo", "format": "zoo", "doi": "zenodo.1"}, "doi is 'zenodo.1', but one such as"),
        ({"kind": "zenodo", "format": "zoo", "doi": "10.5281/zenodo.1", "record": 0}, "record is 0"),
        ({"kind": "zenodo", "format": "zoo", "doi": "10.5281/zenodo.1", "record": "1"}, "record is '1', but int"),
        ({"kind": "zenodo", "format": "zoo", "doi": "10.5281/zenodo.1", "file": "a/b"}, "file is 'a/b', but the name"),
        ({"kind": "zenodo", "format": "zoo", "doi": "10.5281/zenodo.1", "member": "../a"}, "member is '../a'"),
        ({"kind": "url", "format": "zoo", "url": "http://example.org/a"}, "starts with https://"),
        ({"kind": "url", "format": "zoo", "url": "https://example.org/a", "size": 0}, "size is 0"),
        (
            {"kind": "url", "format": "zoo", "url": "https://example.org/a", "checksum": "md5:12"},
            "checksum is 'md5:12'",
        ),
        ({"kind": "url", "format": "zoo", "url": "https://example.org/a", "epochs": 3}, "epochs is 3, but list"),
    ],
)
def test_sources_are_strict(source: dict[str, object], message: str) -> None:
    """Each kind of source takes its own fields and values, and nothing else."""
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        from_table(Source, source, "card mine.toml: sources")
    assert str(caught.value).startswith("card mine.toml: sources")


def test_epochs_in_short() -> None:
    """A span of epochs may be written by its ends, which belong to it."""
    card = parse_card(
        TEXT.replace("epochs = [5, 25, 50]", "epochs = { first = 3, last = 5 }"), where="digits_cnn_s_seed.toml"
    )
    assert card.epochs == (3, 4, 5)


def test_unknown_is_absent() -> None:
    """What is not known is None on the card and missing from its plain data: nothing stands for it."""
    card = find_card("cnn_wild_park")
    assert (card.epochs, card.n_states, card.n_weights, card.grid, card.seeds, card.recipe) == (None,) * 6
    assert not {"epochs", "n_weights", "grid", "seeds", "recipe"} & set(card.to_dict())
    assert set(card.to_dict()["sources"][0]) == {"kind", "format", "doi", "record", "note"}
    assert find_card("digits_cnn_s").to_dict()["sources"] == [{"kind": "bundled"}]


@pytest.mark.parametrize("cls", [Card, Source, *Source.kinds.values()])
def test_every_field_is_documented(cls: type) -> None:
    """The docstrings name each field that a TOML file may hold."""
    documented = "".join(base.__doc__ for base in cls.__mro__ if base.__module__.startswith("zoobench"))
    for field in cls.__dataclass_fields__:
        assert field in ("kind", "kinds") or f"\n    {field} : " in documented, field


def test_no_file_without_a_card() -> None:
    """Every bundled folder, recipe and committed result belongs to a card."""
    assert {f.name for f in (ROOT / "bundled").iterdir()} == set(BUNDLED)
    assert {f.stem for f in (ROOT / "recipes").iterdir()} <= set(CARDS)
    assert {f.stem for f in (ROOT / "results").glob("*.json")} <= set(CARDS)
    for store in ("records", "published"):
        assert {folder.name for folder in (ROOT / "results" / store).iterdir()} <= set(CARDS)
