"""Tasks have stable names, and protocols deal out models by those alone."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoobench import fetch_zoo
from zoobench.benchmark.data import load
from zoobench.benchmark.protocols import check_protocol, folds, n_folds, seed_of
from zoobench.benchmark.tasks import Task, default_zoos, tasks_of

PROTOCOLS = st.sampled_from(["cv-5x1", "cv-2x3", "cv-10x2", "paper", "nfn"])
NAMES = st.lists(st.text(min_size=1, max_size=6), min_size=30, max_size=60, unique=True)


def table_of(names: list[str], n_epochs: int = 3) -> pd.DataFrame:
    """States of some models, each in the train, val or test part."""
    table = pd.DataFrame({"model": np.repeat(names, n_epochs), "epoch": np.tile(np.arange(n_epochs), len(names))})
    return table.assign(split=np.repeat([("train", "val", "test")[i % 3] for i in range(len(names))], n_epochs))


@given(protocol=PROTOCOLS, names=NAMES)
def test_no_model_is_on_two_sides(protocol: str, names: list[str]) -> None:
    """All states of a model are fitted on, chosen on, or judged on; never two of these in one fold."""
    table = table_of(names)
    found = folds(protocol, "a_zoo", table)
    assert len(found) == n_folds(protocol)
    for fold in found:
        sides = [set(table["model"].to_numpy()[rows]) for rows in fold]
        assert sum(map(len, sides)) == len(names) == len(set.union(*sides))
        assert sum(map(len, fold)) == len(table)


@given(names=NAMES, seed=st.integers(0, 1000))
def test_order_of_rows_changes_no_fold(names: list[str], seed: int) -> None:
    """A zoo whose rows come in another order has the same models in the same folds."""
    table = table_of(names)
    shuffled = table.sample(frac=1, random_state=seed).reset_index(drop=True)
    for one, other in zip(folds("cv-5x2", "z", table), folds("cv-5x2", "z", shuffled), strict=True):
        for a, b in zip(one, other, strict=True):
            assert set(table["model"].to_numpy()[a]) == set(shuffled["model"].to_numpy()[b])


def test_cross_validation_judges_each_model_once_a_repetition() -> None:
    """The five test parts of a repetition are all models, nearly equal in number, and repetitions differ."""
    table = table_of([f"m{i}" for i in range(33)])
    found = folds("cv-5x2", "a_zoo", table)
    first = [set(table["model"].to_numpy()[fold.test]) for fold in found[:5]]
    assert sum(map(len, first)) == 33 == len(set.union(*first))
    assert {len(models) for models in first} == {6, 7}
    assert first[0] != set(table["model"].to_numpy()[found[5].test])


def test_the_paper_protocol_is_the_zoos_own_split() -> None:
    """Train, val and test are the zoo's, without states that have a weight beyond 5."""
    data = load(Task("digits_cnn_s_hyp_rand", "test_acc", "paper"))
    expected = fetch_zoo("digits_cnn_s_hyp_rand", max_abs_weight=5)
    for part, rows in zip(("train", "val", "test"), data.folds[0], strict=True):
        assert data.fit.properties["model"].to_numpy()[rows].tolist() == (
            expected.properties["model"].to_numpy()[expected.split == part].tolist()
        )


def test_nfn_looks_at_last_states_and_tests_half_of_the_models() -> None:
    """One state a model; half of them test, a tenth is for choosing; Kendall's tau ranks."""
    data = load(Task("digits_cnn_s_seed", "test_acc", "nfn"))
    assert set(data.fit.properties["epoch"]) == {50}
    assert [len(rows) for rows in data.folds[0]] == [80, 20, 100]
    assert Task("digits_cnn_s_seed", "test_acc", "nfn").metric == "kendall_tau"


def test_models_without_states_are_not_dealt_out() -> None:
    """A model that is left out for its weights takes no place: folds have as many models, give or take one."""
    data = load(Task("digits_cnn_s_hyp_rand", "test_acc"))
    sizes = [data.judge.properties["model"].iloc[fold.test].nunique() for fold in data.folds]
    assert max(sizes) - min(sizes) <= 1


def test_transfer_judges_no_twin_of_what_it_learnt_from() -> None:
    """Twins carry their models' names, so only those of the source's test part judge; and no zoo judges itself."""
    data = load(Task("digits_cnn_s_seed_sparse", "test_acc", "transfer-from-digits_cnn_s_seed"))
    fold = data.folds[0]
    learnt = set(data.fit.properties["model"].iloc[np.concatenate([fold.train, fold.val])])
    judging = set(data.judge.properties["model"].iloc[fold.test])
    assert judging
    assert not learnt & judging
    with pytest.raises(ValueError, match="would judge digits_cnn_s_seed on what it was fitted on; name another zoo"):
        Task("digits_cnn_s_seed", "test_acc", "transfer-from-digits_cnn_s_seed")


def test_transfer_judges_all_models_of_the_other_zoo() -> None:
    """Fitted on one zoo's train part, judged on every state of the other."""
    data = load(Task("digits_cnn_s_seed", "test_acc", "transfer-from-digits_cnn_s_hyp_rand"))
    assert data.judge.properties["model"].nunique() == 200
    assert len(data.folds[0].test) == len(data.judge.rows)
    assert set(data.fit.properties["split"].iloc[data.folds[0].train]) == {"train"}


def test_tasks_are_the_properties_that_vary() -> None:
    """A seed zoo has three tasks; a hyper-parameter zoo one for each hyper-parameter more."""
    found = tasks_of(default_zoos())
    assert [t.property for t in found if t.zoo.endswith("seed")] == ["test_acc", "epoch", "ggap"]
    assert len(found) == 12
    assert all(Task.parse(task.id) == task for task in found)
    assert {t.property: t.kind for t in found}["init"] == "classification"


def test_ids_stay_what_they_are() -> None:
    """Records are stored under these, and seeds and folds follow from names: both for ever."""
    assert Task.parse("digits_cnn_s/test_acc").id == "digits_cnn_s_seed/test_acc/cv-5x1"
    assert Task.parse("digits_cnn_s/ggap/paper").id == "digits_cnn_s_seed/ggap/paper"
    assert Task("digits_cnn_s", "ggap", "cv").id == "digits_cnn_s_seed/ggap/cv-5x1"
    assert seed_of("digits_cnn_s_seed", "cv-5x1", 0) == 272209505
    first = folds("cv-5x1", "a_zoo", table_of([f"m{i}" for i in range(10)], 1))[0]
    assert first.test.tolist() == [3, 7]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("digits_cnn_s", "a task is written zoo/property or zoo/property/protocol"),
        ("digits_cnn_s/test_ac", "did you mean 'test_acc'?"),
        ("digits_cnn_z/test_acc", "digits_cnn_s"),
        ("digits_cnn_s/test_acc/cv-01x1", "unknown protocol 'cv-01x1'"),
        ("digits_cnn_s/test_acc/cv-1x1", "unknown protocol 'cv-1x1'; there are cv (or cv-FOLDSxREPETITIONS"),
        ("digits_cnn_s/test_acc/transfer-from-digits_cnn_z", "digits_cnn_s"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(text: str, said: str) -> None:
    """Each part of a task's name that is wrong is named, with what there is."""
    with pytest.raises(ValueError, match=re.escape(said)):
        Task.parse(text)


def test_too_few_models_are_said() -> None:
    """Five folds need five models, and each part of the paper's split needs one."""
    with pytest.raises(ValueError, match="cv-5x1 needs at least 5 models, but a_zoo has 3"):
        folds("cv-5x1", "a_zoo", table_of(["a", "b", "c"]))
    with pytest.raises(ValueError, match="paper needs models of a_zoo to val with, and there are none"):
        folds("paper", "a_zoo", table_of(["a", "b", "c"]).query("split != 'val'"))


def test_a_protocol_has_one_name() -> None:
    """`cv` stands for the default, and zeros in front of a number say nothing: ids and seeds follow from the name."""
    assert check_protocol("cv") == "cv-5x1"
    assert check_protocol("cv-05x01") == "cv-5x1"
    assert Task.parse("digits_cnn_s/test_acc/cv-010x3").id == "digits_cnn_s_seed/test_acc/cv-10x3"


def test_the_tasks_of_one_zoo() -> None:
    """One name need not be put into a list."""
    assert tasks_of("digits_cnn_s_seed") == tasks_of(["digits_cnn_s_seed"])
