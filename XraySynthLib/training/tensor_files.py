"""Safetensors files, written and read."""

import re
from collections.abc import Mapping
from os import strerror
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.training.model_folder import CONFIG_NAME


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


def fill(network: nn.Module, path: Path) -> None:
    """Load a network's weights from a safetensors file.

    Raises:
        UnreadableFileError: If it is missing or damaged, or its weights do not fit or are not
            finite.
    """
    try:
        network.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise UnreadableFileError(f"{path} is missing; get the whole model.") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise UnreadableFileError(f"{path} is damaged; get the model again.") from error
    except RuntimeError as error:
        raise UnreadableFileError(
            f"{path} holds weights of another network than {CONFIG_NAME} says; get the model again."
        ) from error
    if not all(tensor.isfinite().all() for tensor in network.state_dict().values()):
        raise UnreadableFileError(f"{path} holds weights that are not finite; get the model again.")
