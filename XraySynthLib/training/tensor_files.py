"""Writing safetensors files."""

import re
from collections.abc import Mapping
from os import strerror
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file


def save_tensors(
    tensors: Mapping[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file.

    Raises:
        OSError: If it cannot be written, as on a full disk; safetensors' own error is none.
    """
    try:
        save_file({name: t.contiguous() for name, t in tensors.items()}, path, metadata)
    except SafetensorError as error:
        if found := re.search(r"\(os error (\d+)\)", str(error)):
            number = int(found[1])
            raise OSError(number, strerror(number), str(path)) from error
        raise


def halved(tensor: torch.Tensor) -> torch.Tensor:
    """Floating point in 16 bits a number, unless one is too large, as normalisation's may be."""
    half = tensor.half()
    return half if tensor.is_floating_point() and half.isfinite().all() else tensor
