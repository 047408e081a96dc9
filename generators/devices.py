"""Where networks are computed."""

from __future__ import annotations

import torch


def resolve_device(device: str) -> str:
    """The device that an argument stands for: one rule for training, sparsifying and evaluating.

    Parameters
    ----------
    device : {"auto", "cpu", "cuda"} or str
        ``"auto"`` is CUDA where there is any, else the CPU.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If the device is unknown, or not on this machine.

    Notes
    -----
    The same call gives the same bits on one machine's CPU; some of CUDA's sums come in no fixed order. Between the two,
    sums are rounded differently, which training amplifies: who wants the same zoo everywhere names the CPU.
    """
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "auto":
        return "cuda" if n_devices else "cpu"
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise ValueError(f"device {device!r} is unknown; use 'auto', 'cpu' or 'cuda'") from None
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r} cannot compute zoos; use 'auto', 'cpu' or 'cuda'")
    if found.type == "cuda" and not n_devices:
        raise ValueError(f"device {device!r} is not available on this machine (no CUDA); use 'cpu' or 'auto'")
    if found.type == "cuda" and (found.index or 0) >= n_devices:
        raise ValueError(f"device {device!r} is not available on this machine, which has {n_devices}; use 'cuda'")
    return str(device)
