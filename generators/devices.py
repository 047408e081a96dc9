"""Where networks are computed."""

from __future__ import annotations

import torch


def resolve_device(device: str) -> str:
    """The device that an argument stands for.

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
    """
    available = torch.cuda.is_available()
    if device == "auto":
        return "cuda" if available else "cpu"
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        raise ValueError(f"device {device!r} is unknown; use 'auto', 'cpu' or 'cuda'") from None
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r} cannot compute zoos; use 'auto', 'cpu' or 'cuda'")
    if kind == "cuda" and not available:
        raise ValueError(f"device {device!r} is not available on this machine (no CUDA); use 'cpu' or 'auto'")
    return device
