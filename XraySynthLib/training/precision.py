"""Where to compute, and in which arithmetic."""

import torch

from XraySynthLib.errors import UsageError


def mixed_precision(device: torch.device) -> str:
    """ "bf16" where the device multiplies matrices of such numbers in hardware, else "no".

    A processor with AVX512-BF16 but without AMX is no faster in bf16: measured, 36 against 30 ms an
    image.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "no"
    return "bf16" if device.type == "cpu" and torch.cpu._is_amx_tile_supported() else "no"


def device_of(name: str) -> torch.device:
    """The device that `--device` names; "auto" is a GPU where there is one.

    Raises:
        UsageError: If there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there[device.type]:
        raise UsageError(f"There is no device {name!r} here; use --device cpu.")
    return device
