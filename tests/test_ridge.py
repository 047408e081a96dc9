"""The ridge path: one factorisation gives what fitting again and again would give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoobench.estimators import ridge
from zoobench.estimators.ridge import RidgePath, blocked_product, first_best, r2_scores

ALPHAS = [30.0, 1.0, 0.01]

#: Fewer rows than columns, as many, one more (where the constant column counts), and more.
SHAPES = [(14, 40), (14, 14), (14, 13), (14, 12), (60, 5)]


def fit_again(X: np.ndarray, Y: np.ndarray, alpha: float, penalize_intercept: bool) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (n_targets, n_features) and intercepts by least squares on rows added for the penalty."""
    if penalize_intercept:
        Z = np.hstack([X, np.ones((len(X), 1))])
        rows = np.vstack([Z, np.sqrt(alpha) * np.eye(Z.shape[1])])
        right = np.vstack([Y, np.zeros((Z.shape[1], Y.shape[1]))])
        solution = np.linalg.lstsq(rows, right)[0]
        return solution[:-1].T, solution[-1]
    centre, level = X.mean(axis=0), Y.mean(axis=0)
    rows = np.vstack([X - centre, np.sqrt(alpha) * np.eye(X.shape[1])])
    solution = np.linalg.lstsq(rows, np.vstack([Y - level, np.zeros((X.shape[1], Y.shape[1]))]))[0]
    return solution.T, level - centre @ solution


def problem(n_samples: int, n_features: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, n_features)) + 2
    return X, X[:, :3] + rng.normal(size=(n_samples, 3)) + [5, 0, -1]


@pytest.mark.parametrize("penalize_intercept", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_solutions_are_those_of_single_fits(shape: tuple[int, int], penalize_intercept: bool) -> None:
    """Coefficients and predictions agree with a fit for each penalty; penalties may differ between targets."""
    X, Y = problem(*shape)
    new = problem(5, shape[1], seed=1)[0]
    path = RidgePath(X, Y, penalize_intercept=penalize_intercept)
    predicted = path.predict(new, ALPHAS)
    mixed = path.coefficients(ALPHAS)
    for i, alpha in enumerate(ALPHAS):
        coef, intercept = fit_again(X, Y, alpha, penalize_intercept)
        found = path.coefficients([alpha] * 3)
        np.testing.assert_allclose(found[0], coef, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(found[1], intercept, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(predicted[i], new @ coef.T + intercept, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(mixed[0][i], coef[i], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("penalize_intercept", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", ["rows", "equal", "unequal"])
def test_held_out_residuals_are_those_of_fits_without_the_group(
    shape: tuple[int, int], penalize_intercept: bool, groups: str
) -> None:
    """The closed form agrees with fitting anew without each group, whatever the sizes of the groups."""
    X, Y = problem(*shape)
    number = np.arange(len(X))
    label = {"rows": None, "equal": number % (len(X) // 2), "unequal": np.minimum(number // 2, 3)}[groups]
    found = RidgePath(X, Y, penalize_intercept=penalize_intercept).held_out_residuals(ALPHAS, label)
    assert found.shape == (3, *Y.shape)
    label = number if label is None else label
    for i, alpha in enumerate(ALPHAS):
        for group in np.unique(label):
            held = label == group
            coef, intercept = fit_again(X[~held], Y[~held], alpha, penalize_intercept)
            np.testing.assert_allclose(found[i, held], Y[held] - X[held] @ coef.T - intercept, rtol=1e-7, atol=1e-8)


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 20), st.integers(1, 20), st.booleans(), st.integers(0, 10**6))
def test_rows_are_groups_of_one(n_samples: int, n_features: int, penalize_intercept: bool, seed: int) -> None:
    """Leaving out rows is leaving out groups of one row, in any order of labels."""
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n_samples, n_features)), rng.normal(size=(n_samples, 2))
    path = RidgePath(X, Y, penalize_intercept=penalize_intercept)
    by_group = path.held_out_residuals([0.5], rng.permutation(n_samples))
    np.testing.assert_allclose(path.held_out_residuals([0.5]), by_group, rtol=1e-9, atol=1e-10)


def test_small_penalties_on_few_rows_stay_accurate() -> None:
    """With the paper's weakest penalty the training rows of a wide X are met, up to the penalty's own effect."""
    X, Y = problem(30, 500)
    path = RidgePath(X, Y, penalize_intercept=True)
    coef, intercept = path.coefficients([1e-5] * 3)
    np.testing.assert_allclose(X @ coef.T + intercept, Y, atol=1e-5)
    # The held-out residuals do not degenerate, although nothing is left of the residuals themselves.
    coef, intercept = fit_again(X[1:], Y[1:], 1e-5, True)
    np.testing.assert_allclose(path.held_out_residuals([1e-5])[0, 0], Y[0] - coef @ X[0] - intercept, rtol=1e-6)


@pytest.mark.parametrize("penalize_intercept", [True, False])
@pytest.mark.parametrize("shape", [(14, 40), (60, 5)])
def test_blocks_do_not_change_results(
    shape: tuple[int, int], penalize_intercept: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A float32 memory map read in many small blocks gives what one float64 array gives."""
    X, Y = problem(*shape)
    X.astype(np.float32).tofile(tmp_path / "X")
    mapped = np.memmap(tmp_path / "X", dtype=np.float32, mode="r", shape=shape)
    groups = np.arange(len(X)) % 7

    def results(X: np.ndarray) -> list[np.ndarray]:
        path = RidgePath(X, Y, penalize_intercept=penalize_intercept)
        return [path.predict(X, ALPHAS), *path.coefficients(ALPHAS), path.held_out_residuals(ALPHAS, groups)]

    expected = [*results(mapped.astype(np.float64)), mapped.astype(np.float64) @ np.ones((shape[1], 2))]
    monkeypatch.setattr(ridge, "_BLOCK_BYTES", 8 * 90)
    found = [*results(mapped), blocked_product(mapped, np.ones((shape[1], 2)))]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_one_group_cannot_be_held_out() -> None:
    """If all rows are one group, the error says that two are needed."""
    X, Y = problem(6, 3)
    with pytest.raises(ValueError, match="at least 2"):
        RidgePath(X, Y, penalize_intercept=False).held_out_residuals([1.0], np.zeros(6))


def test_r2_and_the_first_best_penalty() -> None:
    """R2 is 1 - MSE / variance; the first of equally good penalties is taken; MSE judges where R2 says nothing."""
    Y = np.array([[0.0, 3.0], [1.0, 3.0], [2.0, 3.0]])
    residuals = np.array([[[1.0, 0.5]] * 3, [[0.5, 0.1]] * 3, [[-0.5, 0.2]] * 3])
    scores = r2_scores(residuals, Y)
    np.testing.assert_allclose(scores[:, 0], [-0.5, 0.625, 0.625])
    assert np.isnan(scores[:, 1]).all()
    assert first_best(scores, residuals).tolist() == [1, 1]
