"""How many chunks of a recipe fit into the memory of a device side by side."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from zoobench.generators.chunks import is_cpu
from zoobench.generators.image_sets import find_image_set
from zoobench.generators.parallel import count_jobs, on_this_machine, resolve_jobs
from zoobench.generators.recipes import ModelSettings, Recipe
from zoobench.warning import warn_user

#: Share of the free memory that chunks may take: what they need is known only about.
_SHARE = 0.8

#: About what a process takes with torch and all of this in it, as measured.
_A_PROCESS = 400_000_000

#: Bytes a number of images while they are read: as float32, and twice as the bytes that they were.
_A_PIXEL = 6


def fitting_jobs(
    n_jobs: int | None, recipe: Recipe, chunks: Sequence[Sequence[ModelSettings]], engine: str, device: str
) -> int:
    """How many chunks may be trained at a time: as many as asked for, or fewer, that fit into the memory.

    Parameters
    ----------
    n_jobs : int or None
        As :func:`~zoobench.make_zoo` takes it.
    recipe : Recipe
        What is trained.
    chunks : sequence of sequence of ModelSettings
        What is trained side by side, each by one job.
    engine, device : str
        What trains, and where.

    Returns
    -------
    int
        At least 1. On a cluster what was asked for: its scheduler knows the memory of its machines.
    """
    asked = resolve_jobs(n_jobs)
    if asked == 1 or not on_this_machine():
        return asked
    jobs = max(1, min(count_jobs(asked), len(chunks)))
    free = free_bytes(device)
    if jobs == 1 or free is None:
        return jobs
    fitting = max(1, int(_SHARE * free / job_bytes(recipe, chunks, engine, device)))
    if asked > 1 and fitting < jobs:
        warn_user(f"the free memory has room for {fitting} of the {jobs} jobs asked for: no more run at a time")
    return min(jobs, fitting)


def free_bytes(device: str) -> int | None:
    """Free memory of a device; of the processor's, what the kernel or a container's limit leaves; None if unknown."""
    if not is_cpu(device):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    found = []
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")))
    for folder, limit, usage in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # no such group, or "max": no limit
            most, used = (int(Path(folder, name).read_text()) for name in (limit, usage))
            # Files that the kernel keeps in memory count as used, and go when room is needed.
            stat = dict(line.split() for line in Path(folder, "memory.stat").read_text().splitlines())
            found.append(most - used + int(stat.get("inactive_file", 0)))
    return max(0, min(found)) if found else None


def job_bytes(recipe: Recipe, chunks: Sequence[Sequence[ModelSettings]], engine: str, device: str) -> int:
    """About the memory of the device that one job takes: a process, the images, and its largest chunk."""
    facts = find_image_set(recipe.dataset)
    setting = facts.setting(recipe.architecture)
    n_images = setting.n_train + setting.n_val + facts.n_test
    images = n_images * _A_PIXEL * setting.channels * setting.size**2
    n_models = max(map(len, chunks))
    batch_size = max(recipe.training_values(model)["batch_size"] for chunk in chunks for model in chunk)
    if engine == "native":
        # Weights, gradient, what the optimizer keeps, and a copy; the order of the images.
        training = n_models * 4 * (5 * recipe.layout.n_weights + setting.n_train)
    elif engine == "stacked":
        training = stacked_bytes(recipe, n_models, batch_size, setting.size, setting.n_train)
    else:
        # Weights, gradient, and what the optimizer keeps; each layer's output and the gradient of it.
        training = n_models * 4 * (4 * recipe.layout.n_weights + 2 * batch_size * _outputs(recipe))
    # Checkpoints, and their copy when they are put together.
    kept = n_models * 2 * 4 * len(recipe.epochs) * recipe.layout.n_weights if is_cpu(device) else 0
    return _A_PROCESS + images + training + kept


def stacked_bytes(recipe: Recipe, n_models: int, batch_size: int, side: int, n_images: int) -> int:
    """About the memory that stacked operations take, the images apart: it grows linearly with the models."""
    from zoobench.generators.architectures import FOLLOWERS, STRIDES

    layout, architecture = recipe.layout, recipe.architecture
    numbers, stride = 0, STRIDES.get(architecture, 1)
    for layer, followers in zip(layout.layers, FOLLOWERS[architecture], strict=True):
        assert layer.weight is not None  # every layer of a chain has one
        n_out, n_in, *kernel = layer.weight.shape
        if kernel:
            side = (side - kernel[0]) // stride + 1
            # Patches and outputs with their gradients, and the few copies that pooling, activation and dropout make.
            numbers += side**2 * (2 * n_in * kernel[0] ** 2 + 8 * n_out)
        if "pool" in followers:
            side //= 2
    # Weights, gradient, what the optimizer keeps, and copies; the order of the images, once more in 64 bits.
    return n_models * (4 * batch_size * numbers + 4 * 8 * layout.n_weights + 12 * n_images)


def _outputs(recipe: Recipe) -> int:
    """Numbers that the layers of a network put out for an image, all together."""
    import torch

    from zoobench.generators.training import initial_module

    setting = find_image_set(recipe.dataset).setting(recipe.architecture)
    module = initial_module(recipe, recipe.models()[0], setting.channels).eval()
    sizes: list[int] = []

    def count(_: torch.nn.Module, __: object, output: object) -> None:
        sizes.append(output[0].numel() if isinstance(output, torch.Tensor) else 0)

    for part in module.modules():
        if not list(part.children()):
            part.register_forward_hook(count)
    with torch.inference_mode():
        module(torch.zeros(1, setting.channels, setting.size, setting.size))
    return sum(sizes)
