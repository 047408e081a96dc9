"""Cards: strict, complete, and true of the zoos that they describe."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from zoobench.datasets_registry import Card, find_card, read_cards
from zoobench.datasets_registry.cards import ROOT, parse_card
from zoobench.fetch import stored_at
from zoobench.generators.recipes import find_recipe
from zoobench.layout import WeightLayout
from zoobench.store import check_zoo, read_zoo

CARDS = dict(read_cards())
TEXT = (ROOT / "cards" / "digits_cnn_s_seed.toml").read_text()


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_card_agrees_with_itself_and_its_recipe(card: Card) -> None:
    """Name, layout, grid and counts of a card say the same as the architecture and the recipe."""
    assert card.name == f"{card.dataset}_{card.architecture}_{card.variant}"
    layout = WeightLayout.from_architecture(card.architecture, channels=card.channels)
    assert layout.n_weights == card.n_weights
    recipe = find_recipe(card.recipe)
    assert (recipe.n_models, recipe.n_states) == (card.n_models, card.n_states)
    assert recipe.epochs == card.epochs
    assert {axis: list(values) for axis, values in recipe.grid.items()} == card.grid
    assert "arXiv" in card.citation
    assert card.licence == "CC-BY-4.0"


@pytest.mark.parametrize("card", [card for card in CARDS.values() if card.bundled], ids=lambda card: card.name)
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
    assert index["recipe"] == find_recipe(card.recipe).to_dict()
    assert index["name"] == card.name
    assert contents.layout == WeightLayout.from_architecture(card.architecture, channels=card.channels)


def test_bundled_zoos_are_small_and_worth_predicting() -> None:
    """Together at most 20 MB; in the hyper-parameter zoo some models fail and most learn: there is something to tell."""
    files = [f for card in CARDS.values() if card.bundled for f in card.bundled.iterdir()]
    assert sum(f.stat().st_size for f in files) <= 20e6
    table = read_zoo(stored_at(find_card("digits_cnn_s_hyp_rand"))).properties
    last = table.loc[table["epoch"] == 50, "test_acc"]
    assert last.quantile(0.10) < 0.25
    assert last.quantile(0.75) > 0.80
    assert table["test_acc"].quantile(0.75) > 0.60


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
        ('variant = "seed"', 'variant = "seeds"', "variant 'seeds'; known are"),
        ('name = "digits', 'name = "digitz', "the file must be digitz_cnn_s_seed.toml"),
        ("lr = [0.001]", "lr = 0.001", "list was expected"),
        ("[grid]", "[grid", "no valid TOML"),
        ('[[sources]]\nkind = "bundled"', "sources = 3", "no valid TOML|tuple was expected"),
    ],
)
def test_cards_are_strict(old: str, new: str, message: str) -> None:
    """A misspelt, missing, superfluous or wrong field is refused, with the file's name."""
    text = re.sub(r"(?m)^lr = .*$", "lr = [0.001]", TEXT)
    assert old in text
    with pytest.raises(ValueError, match=message) as caught:
        parse_card(text.replace(old, new), where="digits_cnn_s_seed.toml")
    assert "digits_cnn_s_seed.toml" in str(caught.value)


def test_every_card_field_is_documented() -> None:
    """The docstring of Card names each field that a TOML file may hold."""
    assert set(tomllib.loads(TEXT)) <= {
        name for name in Card.__dataclass_fields__ if f"\n    {name} : " in Card.__doc__
    }


def test_no_file_without_a_card() -> None:
    """Every bundled folder, recipe and committed result belongs to a card."""
    assert {f.name for f in (ROOT / "bundled").iterdir()} == {card.name for card in CARDS.values() if card.bundled}
    for kind in ("recipes", "results"):
        assert {Path(f).stem for f in (ROOT / kind).iterdir()} <= set(CARDS)
