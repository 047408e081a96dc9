"""Sparsified twins of whole zoos: many models at once, in parallel, resumable, into one zoo."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoobench.generators.parallel import resolve_jobs, unordered
from zoobench.generators.parts import PARTS, training_into
from zoobench.generators.recipe_checks import check_count, check_epochs, is_int
from zoobench.generators.twin_zoo import chunks_of, last_states, settings_of, twin_contents
from zoobench.store import is_zoo, read_index, write_zoo
from zoobench.zoo import Zoo

if TYPE_CHECKING:
    from zoobench.generators.images import ImageData
    from zoobench.generators.twin_training import TrainedTwins, TwinChunk

METHODS = ("variational_dropout", "magnitude")
VARIANTS = ("standard", "published")

#: Part of every finished chunk's fingerprint. To be raised when the same settings come to give other twins.
_VERSION = 1


def sparsify_zoo(
    zoo: Zoo,
    *,
    method: str = "variational_dropout",
    n_epochs: int = 25,
    device: str = "auto",
    n_jobs: int | None = None,
    out: str | os.PathLike[str] | None = None,
    checkpoint_epochs: Sequence[int] | None = None,
    n_models: int | None = None,
    images: str | ImageData | None = None,
    variant: str = "standard",
    kl_weight: float = 0.01,
    sparsity: float = 0.5,
    hyperparameters: Mapping[str, Any] | None = None,
    random_state: int = 0,
    resume: bool = True,
) -> Zoo:
    """Train the sparsified twins of a zoo's models.

    Each model's last state is where its twin starts, as epoch 0. Optimizer, learning rate, weight decay, dropout and
    batch size are the model's own; the optimizer starts afresh. Biases are not sparsified.

    Variational dropout gives each weight a variance, which is trained with it: noise of that variance goes through the
    network, and the loss has ``kappa`` times the divergence from a prior that likes noise, where ``kappa`` is
    ``kl_weight * epoch / n_epochs``, at most 1. In evaluation, weights that are mostly noise are zero: how many is
    found, not set. Magnitude pruning zeroes the smallest weights of each network before each epoch of the first half,
    along a cubic schedule that ends at ``sparsity``, and trains the others on.

    Parameters
    ----------
    zoo : Zoo
        Networks that are chains of layers (CNN-s, CNN-l, that of the Small CNN Zoo).
    method : {"variational_dropout", "magnitude"}, default="variational_dropout"
        How to sparsify.
    n_epochs : int, default=25
        Passes over the training images, as in the published twins.
    device : {"auto", "cpu", "cuda"} or str, default="auto"
        Where to train. ``"auto"`` is CUDA where there is any. Random numbers differ between CPU and CUDA.
    n_jobs : int, optional
        Chunks of models trained at the same time, as in joblib: None is 1 outside a ``joblib.parallel_config``.
    out : path-like, optional
        Folder for the twins, in the zoo format: new, empty, what an interrupted run left, or these twins. Each chunk is
        kept as soon as it is finished. Default: the twins stay in memory.
    checkpoint_epochs : sequence of int, optional
        After which epochs a state is kept; 0 is the start. Default: every epoch, 0 included.
    n_models : int, optional
        Only the zoo's first so many models. Default: all.
    images : str or ImageData, optional
        What to train on. Default: what the zoo was trained on, where its recipe or its card tells.
    variant : {"standard", "published"}, default="standard"
        Of variational dropout. ``"published"`` is the form of the published twins, which treats the biases of
        convolutions like weights, and lets weight decay act on the logarithms of variances too, which pulls them up.
    kl_weight : float, default=0.01
        Of variational dropout: ``kappa`` in the last epoch, as in the published twins.
    sparsity : float, default=0.5
        Of magnitude pruning: share of the weights that are zero in the end.
    hyperparameters : mapping, optional
        Values for all models in place of their own, or where the zoo does not tell: some of ``activation``,
        ``optimizer`` (adam, adamw, sgd), ``lr``, ``weight_decay``, ``dropout``, ``momentum``, ``batch_size``.
    random_state : int, default=0
        Sets the random numbers of one run apart from another's. A model's batches, noise and dropout come from this
        and from its name, so that neither its neighbours nor ``n_jobs`` change them.
    resume : bool, default=True
        Train only what ``out`` does not hold yet. False trains every twin anew.

    Returns
    -------
    Zoo
        A row for each twin and checkpoint, in (epoch, model) order, under the models' own names, so that the split is
        theirs too. Weights are those of the network that is evaluated. Properties: losses and accuracies (of the
        training images running means, of the noisy network), ``ggap``, ``sparsity`` (share of zeros among the weights,
        without biases), and what the models were trained with. ``provenance`` in ``zoo.json`` names the zoo and the
        settings. A model that diverges is stored, but left out of what is returned.

    Raises
    ------
    ValueError
        For a name in place of a zoo, for an unknown method, variant, device or image set, for settings or
        hyper-parameters out of range, for networks that are no chain of layers, for hyper-parameters that the zoo does
        not tell, and if ``out`` holds another zoo.
    FileExistsError
        If ``out`` is a file, or holds something that is no zoo.
    RuntimeError
        If another process is training into ``out``.

    References
    ----------
    .. [1] D. Molchanov, A. Ashukha, D. Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017
       (arXiv 1701.05369).
    .. [2] D. Honegger, K. Schürholt, D. Borth, "Sparsified Model Zoo Twins: Investigating Populations of Sparsified
       Neural Network Models", 2023 (arXiv 2304.13718).

    Examples
    --------
    >>> from zoobench import fetch_zoo, sparsify_zoo
    >>> zoo = fetch_zoo("digits_cnn_s")
    >>> twins = sparsify_zoo(zoo, method="magnitude", n_epochs=1, n_models=2, hyperparameters={"batch_size": 100})
    >>> twins
    Zoo(digits_cnn_s_seed_sparse_magnitude_50: 4 states of 2 models, 2464 weights, epochs 0, 1, target test_acc)
    >>> twins.properties["sparsity"].tolist()
    [0.0, 0.0, 0.5, 0.5]
    """
    from zoobench.generators.devices import resolve_device

    if not isinstance(zoo, Zoo):
        remedy = f"; fetch it first, as in fetch_zoo({zoo!r})" if isinstance(zoo, str) else ""
        raise ValueError(f"zoo must be a Zoo, not {zoo!r}{remedy}")
    for name, value, known in (("method", method, METHODS), ("variant", variant, VARIANTS)):
        if value not in known:
            raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, not {value!r}")
    check_count("n_epochs", n_epochs, least=1)
    if n_models is not None:
        check_count("n_models", n_models, least=1)
    if not is_int(random_state):
        raise ValueError(f"random_state must be a whole number, not {random_state!r}")
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must be from 0, below 1, not {sparsity!r}")
    if not 0 <= kl_weight <= 1:
        raise ValueError(f"kl_weight must be from 0 to 1, not {kl_weight!r}")
    of_method: dict[str, Any] = {"sparsity": float(sparsity)}
    if method == "variational_dropout":
        of_method = {"variant": variant, "kl_weight": float(kl_weight)}
    start = last_states(zoo, n_models)
    data, settings = settings_of(
        start,
        images,
        {} if hyperparameters is None else hyperparameters,
        {
            "method": method,
            **of_method,
            "n_epochs": n_epochs,
            "epochs": list(check_epochs(checkpoint_epochs, n_epochs)),
            "random_state": random_state,
        },
    )
    device = resolve_device(device)
    chunks = chunks_of(start, settings["hyperparameters"], device)
    if out is None:
        trained = dict(_train(chunks, settings, data, device, n_jobs, None))
        return Zoo.from_contents(twin_contents(start, settings, chunks, trained, device))
    folder = Path(out).absolute()
    with training_into(folder):
        if is_zoo(folder):
            if read_index(folder)["provenance"].get("twins") != settings:
                raise ValueError(f"{folder} holds another zoo; choose another folder or delete it")
            if resume:
                # A kill may have come between the zoo's last file and the end of these.
                shutil.rmtree(folder / PARTS, ignore_errors=True)
                return _loaded(folder)
        parts = folder / PARTS
        if not resume:
            shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(exist_ok=True)
        trained = dict(_train(chunks, settings, data, device, n_jobs, parts))
        write_zoo(folder, twin_contents(start, settings, chunks, trained, device))
        shutil.rmtree(parts, ignore_errors=True)
        return _loaded(folder)


def _train(
    chunks: list[TwinChunk],
    settings: dict[str, Any],
    images: ImageData,
    device: str,
    n_jobs: int | None,
    parts: Path | None,
) -> Iterator[tuple[int, TrainedTwins]]:
    """Number and result of each chunk, those that are finished already first."""
    from tqdm import tqdm

    missing: list[int] = []
    with tqdm(total=sum(map(_n_models, chunks)), desc="sparsifying", unit="model", disable=None) as bar:
        for number, chunk in enumerate(chunks):
            finished = None if parts is None else _read_part(parts, chunk, settings, device)
            if finished is None:
                missing.append(number)
                continue
            bar.update(_n_models(chunk))
            yield number, finished
        calls = [(number, chunks[number], settings, images, device) for number in missing]
        jobs = resolve_jobs(n_jobs)
        for number, trained in (
            (_train_chunk(*call) for call in calls) if jobs == 1 else unordered(_train_chunk, calls, jobs)
        ):
            if parts is not None:
                _write_part(parts, chunks[number], settings, device, trained)
            bar.update(_n_models(chunks[number]))
            yield number, trained


def _n_models(chunk: TwinChunk) -> int:
    return len(set(chunk.names))


def _train_chunk(
    number: int, chunk: TwinChunk, settings: dict[str, Any], images: ImageData, device: str
) -> tuple[int, TrainedTwins]:
    from zoobench.generators.chains import Chain
    from zoobench.generators.pruning import MagnitudePruning
    from zoobench.generators.twin_training import Sparsifier, train_twins
    from zoobench.generators.variational import VariationalDropout

    chain, n_epochs = Chain(chunk.layout, chunk.shared["activation"]), settings["n_epochs"]
    sparsifier: Sparsifier
    if settings["method"] == "magnitude":
        sparsifier = MagnitudePruning(chain, sparsity=settings["sparsity"], n_epochs=n_epochs)
    else:
        sparsifier = VariationalDropout(
            chain, kl_weight=settings["kl_weight"], n_epochs=n_epochs, variant=settings["variant"]
        )
    return number, train_twins(
        chunk,
        sparsifier,
        images,
        epochs=settings["epochs"],
        random_state=settings["random_state"],
        device=device,
    )


# -- finished chunks on disk -------------------------------------------------------------------------------------------


def _part_path(parts: Path, chunk: TwinChunk, settings: dict[str, Any], device: str) -> Path:
    """The file of a chunk, named by everything that its twins depend on."""
    plain = {
        "version": _VERSION,
        "settings": settings,
        "device": device.partition(":")[0],
        "names": chunk.names,
        "shared": chunk.shared,
        "own": chunk.own,
        "weights": hashlib.blake2b(chunk.weights.tobytes()).hexdigest(),
    }
    return parts / f"{hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=16).hexdigest()}.npz"


def _write_part(parts: Path, chunk: TwinChunk, settings: dict[str, Any], device: str, trained: TrainedTwins) -> None:
    """Keep a finished chunk: whole, or not at all."""
    handle, scratch = tempfile.mkstemp(dir=parts, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, weights=trained.weights, metrics=trained.metrics)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, _part_path(parts, chunk, settings, device))
    except BaseException:
        with suppress(OSError):
            os.unlink(scratch)
        raise


def _read_part(parts: Path, chunk: TwinChunk, settings: dict[str, Any], device: str) -> TrainedTwins | None:
    """A finished chunk, or None if there is none, or a damaged one."""
    from zoobench.generators.twin_training import TrainedTwins

    try:
        with np.load(_part_path(parts, chunk, settings, device), allow_pickle=False) as file:
            return TrainedTwins(file["weights"], file["metrics"])
    except Exception:  # A damaged archive raises whatever its damage leads to; the remedy is the same.
        return None


def _loaded(folder: Path) -> Zoo:
    from zoobench.loading import load_zoo

    zoo: Zoo = load_zoo(folder)
    return zoo
