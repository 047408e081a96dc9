"""Samplers: densities that are right, randomness that is independent in every dimension, and samples that are new."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.spatial.distance import cdist
from scipy.stats import kstest, norm
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KernelDensity

from zoobench import fetch_zoo
from zoobench.estimators import LatentKDE, WeightKDE, WeightPCA
from zoobench.estimators.kde import best_rows

SAMPLERS = [WeightKDE(), WeightKDE("joint"), WeightKDE(bandwidth=0.002), LatentKDE(WeightPCA(20)), LatentKDE(PCA(5))]


@pytest.fixture(scope="module")
def zoo() -> Any:
    return fetch_zoo("digits_cnn_s", subset="train", epochs="last")


def each(samplers: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sampler", samplers, ids=lambda s: repr(s).replace("\n", ""))


@each(SAMPLERS)
def test_samples_are_no_copies_of_models(zoo: Any, sampler: Any) -> None:
    """On real models, no sample lies as near to a model as samples that are copies with the kernel's noise would.

    With one seed for every dimension, each dimension of a sample comes from the same model: its distance to that model
    is the noise alone. Drawn independently, samples are about as far from the nearest model as models are from
    each other; drawn jointly, they differ from it by the noise, which by the rule is of that size.
    """
    fitted = clone(sampler).fit(zoo.data, zoo.target)
    samples = fitted.sample(20, random_state=0)
    assert samples.dtype == np.float32
    models = zoo.data
    if isinstance(fitted, LatentKDE):
        models = fitted.autoencoder_.inverse_transform(fitted.autoencoder_.transform(models))

    def nearest(one: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.sort(cdist(one, others), axis=1)

    between_models = nearest(models, models)[:, 1]
    assert nearest(samples, models)[:, 0].min() > 0.5 * between_models.min()
    assert nearest(samples, samples)[:, 1].min() > 0.5 * between_models.min()


def test_dimensions_are_drawn_independently(zoo: Any) -> None:
    """The models that two dimensions of the samples come from are unrelated; so is the noise."""
    kde = WeightKDE(bandwidth=1e-9).fit(zoo.data[:, :40])
    samples = kde.sample(3000, random_state=1)
    origin = np.abs(samples[:, None, :] - kde.models_).argmin(axis=1)
    agree = np.mean(origin[:, :, None] == origin[:, None, :], axis=0)
    off_diagonal = agree[~np.eye(40, dtype=bool)]
    assert off_diagonal.max() < 5 / len(kde.models_)  # by chance 1 / n_models
    noise = WeightKDE("joint", bandwidth=1.0).fit(np.zeros((2, 5))).sample(4000, random_state=0)
    assert np.abs(np.corrcoef(noise.T) - np.eye(5)).max() < 0.06
    assert all(kstest(column, norm.cdf).pvalue > 1e-3 for column in noise.T)


@pytest.mark.parametrize("bandwidth", [0.3, "scott", "silverman"])
def test_densities_are_right(bandwidth: float | str) -> None:
    """Joint densities are scikit-learn's; independent ones are the product of those of each dimension."""
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(30, 3)), rng.normal(size=(7, 3))
    columns = [WeightKDE(bandwidth=bandwidth).fit(X[:, [j]]) for j in range(3)]
    for j, kde in enumerate(columns):
        h = float(kde.bandwidth_[0])
        expected = KernelDensity(bandwidth=h).fit(X[:, [j]]).score_samples(new[:, [j]])
        np.testing.assert_allclose(kde.score_samples(new[:, [j]]), expected, rtol=1e-9)
    independent = WeightKDE(bandwidth=bandwidth).fit(X)
    product = sum(kde.score_samples(new[:, [j]]) for j, kde in enumerate(columns))
    np.testing.assert_allclose(independent.score_samples(new), product, rtol=1e-9)
    joint = WeightKDE("joint", bandwidth=bandwidth).fit(X)
    scaled = KernelDensity(bandwidth=1.0).fit(X / joint.bandwidth_)
    expected = scaled.score_samples(new / joint.bandwidth_) - np.log(joint.bandwidth_).sum()
    np.testing.assert_allclose(joint.score_samples(new), expected, rtol=1e-9)
    assert joint.score(new) == pytest.approx(expected.sum())
    assert quad(lambda x: np.exp(columns[0].score_samples([[x]])[0]), -9, 9)[0] == pytest.approx(1, abs=1e-6)


def test_rules_are_those_of_scott_and_silverman() -> None:
    """A rule is a factor on the standard deviation, for one dimension or for all of them at once."""
    X = np.random.default_rng(0).normal(size=(50, 4)) * [1, 2, 3, 4]
    spread = X.std(axis=0)
    np.testing.assert_allclose(WeightKDE().fit(X).bandwidth_, 50 ** (-1 / 5) * spread)
    np.testing.assert_allclose(WeightKDE("joint").fit(X).bandwidth_, 50 ** (-1 / 8) * spread)
    silverman = WeightKDE("joint", bandwidth="silverman").fit(X)
    np.testing.assert_allclose(silverman.bandwidth_, (50 * 6 / 4) ** (-1 / 8) * spread)


def test_weights_that_are_the_same_everywhere_stay_so() -> None:
    """A constant weight is sampled as it is, and any other value of it has no density."""
    X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    X[:, 1] = 0.1
    for kde in (WeightKDE().fit(X), WeightKDE("joint").fit(X)):
        assert (kde.sample(50, random_state=0)[:, 1] == np.float32(0.1)).all()
        other = X.copy()
        other[0, 1] = 0.2
        assert np.isneginf(kde.score_samples(other)).tolist() == [True] + [False] * 19


@each([WeightKDE(top=0.25), LatentKDE(PCA(2), top=0.25)])
def test_the_best_models_are_sampled_from(sampler: Any) -> None:
    """Given y, only the best share of those with a known y counts; without y, all do."""
    X = np.random.default_rng(0).normal(size=(40, 3)) + 100 * (np.arange(40) >= 32)[:, None]
    y = np.where(np.arange(40) < 8, np.nan, np.arange(40.0))
    best = clone(sampler).fit(X, y)
    assert best.sample(200, random_state=0).min() > 80
    assert len(getattr(best, "kde_", best).models_) == 8
    assert clone(sampler).fit(X).sample(200, random_state=0).min() < 20
    with pytest.raises(ValueError, match="NaN everywhere"):
        clone(sampler).fit(X, np.full(40, np.nan))
    with pytest.raises(ValueError, match="y has 3 entries, but X has 40"):
        clone(sampler).fit(X, y[-3:])


def test_best_rows_are_stable() -> None:
    """Of equally good models the first ones are taken, at least one, in their order."""
    assert best_rows([1, 1, 1, 0], 4, 0.5).tolist() == [0, 1]
    assert best_rows([3, 1, 2, 4], 4, 0.01).tolist() == [3]


@each(SAMPLERS)
def test_samples_repeat_with_the_random_state(zoo: Any, sampler: Any) -> None:
    """An integer gives the same samples each time, other integers and a generator's next draw give others."""
    fitted = clone(sampler).fit(zoo.data[:30, :100])
    first = fitted.sample(4, random_state=0)
    np.testing.assert_array_equal(first, fitted.sample(4, random_state=0))
    assert not np.isclose(first, fitted.sample(4, random_state=1)).any(axis=1).all()
    rng = np.random.RandomState(0)
    np.testing.assert_array_equal(first, fitted.sample(4, random_state=rng))
    assert not np.array_equal(first, fitted.sample(4, random_state=rng))
    assert fitted.sample().shape == (1, 100)


def test_a_fitted_autoencoder_is_used_as_it_is(zoo: Any) -> None:
    """Frozen, it is not fitted again; otherwise a clone is, and the one that was given stays unfitted."""
    pca = WeightPCA(5).fit(zoo.data[:60])
    frozen = LatentKDE(FrozenEstimator(pca)).fit(zoo.data[60:])
    np.testing.assert_array_equal(frozen.autoencoder_.transform(zoo.data), pca.transform(zoo.data))
    given = WeightPCA(5)
    fitted = LatentKDE(given).fit(zoo.data[60:])
    assert not hasattr(given, "components_")
    assert not np.allclose(fitted.autoencoder_.transform(zoo.data), pca.transform(zoo.data))
    latents = fitted.autoencoder_.transform(zoo.data)
    np.testing.assert_allclose(fitted.score_samples(zoo.data), fitted.kde_.score_samples(latents))


def test_a_fit_that_fails_leaves_no_old_density(zoo: Any) -> None:
    """After a fit on other data that failed, nothing of the fit before is sampled from."""
    sampler = LatentKDE(WeightPCA(5)).fit(zoo.data)
    with pytest.raises(ValueError, match="y is NaN everywhere"):
        sampler.fit(zoo.data[:, :100], np.full(len(zoo.data), np.nan))
    for ask in (sampler.sample, lambda: sampler.score_samples(zoo.data)):
        with pytest.raises(NotFittedError):
            ask()
    assert sampler.fit(zoo.data[:, :100]).sample(2, random_state=0).shape == (2, 100)
