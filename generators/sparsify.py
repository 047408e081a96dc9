"""Sparsified twins of whole zoos: many models at once, in parallel, resumable, into one zoo."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from zoobench.generators.devices import resolve_device
from zoobench.generators.image_fit import check_is_zoo
from zoobench.generators.images import ImageData
from zoobench.generators.parts import ASSEMBLING, PARTS, begin_anew, clear_up, is_finished, training_into
from zoobench.generators.recipe_checks import check_count, check_epochs, is_int
from zoobench.generators.twin_runs import TwinRun
from zoobench.generators.twin_zoo import chunks_of, last_states, settings_of, twin_contents
from zoobench.readers.room import DiskRoom
from zoobench.store import is_zoo, read_index, write_zoo
from zoobench.zoo import Zoo

METHODS = ("variational_dropout", "magnitude")
VARIANTS = ("standard", "published")

#: What each method takes, and what it is where it is not given.
_OF_METHOD: dict[str, dict[str, Any]] = {
    "variational_dropout": {"variant": "standard", "kl_weight": 0.01},
    "magnitude": {"sparsity": 0.5},
}


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
    variant: str | None = None,
    kl_weight: float | None = None,
    sparsity: float | None = None,
    hyperparameters: Mapping[str, Any] | None = None,
    random_state: int = 0,
    resume: bool = True,
) -> Zoo:
    """Train the sparsified twins of a zoo's models.

    Each model's last state is where its twin starts, as epoch 0. Optimizer, learning rate, weight decay, dropout and
    batch size are the model's own; the optimizer starts afresh, and the learning rate stays what it is, whatever
    schedule the model had. Weights of convolutions and linear layers are sparsified; biases and normalisations are
    trained on as they are, and running statistics go on. Models of CNN-s, CNN-l and the Small CNN Zoo's network are
    trained many at a time; ResNet-18 and architectures of your own one by one.

    Variational dropout gives each weight a variance, which is trained with it: noise of that variance goes through the
    network, and the loss has ``kappa`` times the divergence from a prior that likes noise, where ``kappa`` is
    ``kl_weight * epoch / n_epochs``, at most 1. In evaluation, weights that are mostly noise are zero: how many is
    found, not set. Magnitude pruning zeroes the smallest weights of each network before each epoch of the first half,
    along a cubic schedule that ends at ``sparsity``, and trains the others on.

    Parameters
    ----------
    zoo : Zoo
        Of a named architecture, or of one of :func:`register_architecture` whose weights are those of ``Linear``,
        ``Conv1d``, ``Conv2d`` and ``Conv3d`` layers, which it calls.
    method : {"variational_dropout", "magnitude"}, default="variational_dropout"
        How to sparsify.
    n_epochs : int, default=25
        Passes over the training images, as in the published twins.
    device : {"auto", "cpu", "cuda"} or str, default="auto"
        Where to train. ``"auto"`` is CUDA where there is any, else the CPU. Random numbers differ between the two.
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
    variant : {"standard", "published"}, optional
        Of variational dropout alone; ``"standard"`` where not given. ``"published"`` is the form of the published
        twins, which treats the biases of convolutions like weights, and lets weight decay act on the logarithms of
        variances too, which pulls them up.
    kl_weight : float, optional
        Of variational dropout alone: ``kappa`` in the last epoch; 0.01 where not given, as in the published twins.
    sparsity : float, optional
        Of magnitude pruning alone: share of the weights that are zero in the end; 0.5 where not given.
    hyperparameters : mapping, optional
        Values for all models in place of their own, or where the zoo does not tell: some of ``activation``,
        ``optimizer`` (adam, adamw, sgd), ``lr``, ``weight_decay``, ``dropout``, ``momentum``, ``batch_size``.
    random_state : int, default=0
        Sets the random numbers of one run apart from another's. A model's batches, noise and dropout come from this
        and from its name, so that neither its neighbours nor ``n_jobs`` change them.
    resume : bool, default=True
        Train only what ``out`` does not hold yet. False trains every twin anew; the twins that were there stay until
        the new ones are whole, and if that is interrupted, the next call goes on with them.

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
        hyper-parameters out of range, for settings of the other method, for networks that are not known or have a layer
        that cannot be sparsified, which is named, for images that do not fit them, for hyper-parameters that the zoo
        does not tell, and if ``out`` holds another zoo.
    FileExistsError
        If ``out`` is a file, or holds something that is no zoo.
    RuntimeError
        If another process is training into ``out``.

    References
    ----------
    .. [1] Molchanov, D., Ashukha, A. and Vetrov, D., "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017
       (arXiv 1701.05369).
    .. [2] Honegger, D., Schürholt, K. and Borth, D., "Sparsified Model Zoo Twins: Investigating Populations of
       Sparsified Neural Network Models", 2023 (arXiv 2304.13718).

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
    check_is_zoo(zoo)
    of_method = method_settings(method, {"variant": variant, "kl_weight": kl_weight, "sparsity": sparsity})
    check_count("n_epochs", n_epochs, least=1)
    if n_models is not None:
        check_count("n_models", n_models, least=1)
    if not is_int(random_state):
        raise ValueError(f"random_state must be a whole number, not {random_state!r}")
    device = resolve_device(device)
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
    chunks = chunks_of(start, settings["hyperparameters"], device)
    run = TwinRun(chunks, settings, data, device, by_name=not isinstance(images, ImageData))
    run.check()
    shape = (len(start.data) * len(settings["epochs"]), start.layout.n_weights)
    if out is None:
        trained = dict(run.train(range(len(chunks)), n_jobs))
        weights = np.empty(shape, dtype=np.float32)
        return Zoo.from_contents(twin_contents(start, settings, chunks, trained.__getitem__, weights, device, run.code))
    folder = Path(out).absolute()
    with training_into(folder):
        if is_zoo(folder) and read_index(folder)["provenance"].get("twins") != settings:
            raise ValueError(f"{folder} holds another zoo; choose another folder or delete it")
        if resume and is_finished(folder):
            if read_index(folder)["provenance"].get("architecture_code") != run.code:
                raise ValueError(
                    f"{folder} holds twins of another architecture: the function that builds it has changed, or its "
                    "digest has, as with another version of Python; choose another folder, or ask for resume=False"
                )
            # A kill may have come between the zoo's last file and the end of these.
            clear_up(folder)
            return _loaded(folder)
        parts = run.parts(folder / PARTS)
        if not resume:
            begin_anew(folder)
        parts.folder.mkdir(exist_ok=True)
        # On disk at once, and not kept here: large networks would fill the memory.
        for number, twins in run.train([i for i, chunk in enumerate(chunks) if not parts.has(chunk)], n_jobs):
            parts.write(chunks[number], twins)
        scratch = folder / ASSEMBLING
        try:
            weights = DiskRoom(scratch).matrix(*shape)
            made = twin_contents(start, settings, chunks, lambda i: parts.read(chunks[i]), weights, device, run.code)
            write_zoo(folder, made)
        finally:
            scratch.unlink(missing_ok=True)
        clear_up(folder)
        return _loaded(folder)


def method_settings(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a method; those of the other may not be given, since they would change nothing."""
    if method not in METHODS:
        raise ValueError(f"method must be {' or '.join(map(repr, METHODS))}, not {method!r}")
    for other, defaults in _OF_METHOD.items():
        for name in defaults:
            if other != method and given[name] is not None:
                raise ValueError(f"{name} is a setting of method {other!r}, not of {method!r}; leave it out")
    settings = {name: default if given[name] is None else given[name] for name, default in _OF_METHOD[method].items()}
    if settings.get("variant", VARIANTS[0]) not in VARIANTS:
        raise ValueError(f"variant must be {' or '.join(map(repr, VARIANTS))}, not {settings['variant']!r}")
    for name, span, holds in (
        ("sparsity", "from 0, below 1", lambda value: 0 <= value < 1),
        ("kl_weight", "from 0 to 1", lambda value: 0 <= value <= 1),
    ):
        if name in settings:
            value = settings[name]
            if isinstance(value, bool) or not isinstance(value, Real) or not holds(value):
                raise ValueError(f"{name} must be a number {span}, not {value!r}")
            settings[name] = float(value)
    return settings


def _loaded(folder: Path) -> Zoo:
    from zoobench.loading import load_zoo

    zoo: Zoo = load_zoo(folder)
    return zoo
