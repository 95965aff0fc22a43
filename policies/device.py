"""Where a policy plays: on a GPU where there is one."""

import torch
from torch import Tensor

from envs.errors import PolicyError

AUTO = "auto"


def pick_device(asked: str | torch.device = AUTO) -> torch.device:
    """Return the device that was asked for; "auto": a GPU where CUDA has one, else the CPU.

    No other accelerator: the rotary angles are in float64, which not all of them have.

    Raises:
        PolicyError: when there is no such device here; it says which there are.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == AUTO:
        return torch.device("cuda" if count else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda") or (device.type == "cuda" and (device.index or 0) >= count):
        there = ", ".join(["auto", "cpu", *(f"cuda:{i}" for i in range(count))])
        raise PolicyError(f"device is {str(asked)!r}, expected one that is here: {there}")
    return device


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device, without waiting for what a GPU is doing."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
