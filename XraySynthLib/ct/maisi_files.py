"""MAISI-v2 (NVIDIA's NV-Generate-CT) from the user's own files, by MONAI's networks.

Files in its folder: `FILES`, and perhaps config_network_rflow.json where the networks are not those
published. Nothing is fetched here: the weights are under NVIDIA's licence, see the model card.
"""

import json
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.data import MetaTensor
from monai.networks.schedulers import RFlowScheduler
from monai.utils.enums import MetaKeys, SpaceKeys, TraceKeys
from torch import nn

from XraySynthLib.ct.maisi import Maisi
from XraySynthLib.errors import UnreadableFileError

FILES = MappingProxyType(
    {
        "autoencoder_def": "autoencoder_v1.pt",
        "diffusion_unet_def": "diff_unet_3d_rflow-ct.pt",
        "controlnet_def": "controlnet_3d_rflow-ct.pt",
    }
)
CONFIG_NAME = "config_network_rflow.json"
CLASSES = MappingProxyType(
    {
        "autoencoder_def": AutoencoderKlMaisi,
        "diffusion_unet_def": DiffusionModelUNetMaisi,
        "controlnet_def": ControlNetMaisi,
    }
)
WEIGHT_KEYS = ("unet_state_dict", "controlnet_state_dict", "autoencoder_state_dict")
_LEVELS = {
    "spatial_dims": 3,
    "in_channels": 4,
    "num_channels": [64, 128, 256, 512],
    "attention_levels": [False, False, True, True],
    "num_head_channels": [0, 0, 32, 32],
    "num_res_blocks": 2,
    "use_flash_attention": True,
    "num_class_embeds": 128,
    "resblock_updown": True,
    "include_fc": True,
}
PUBLISHED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "autoencoder_def": {
            "spatial_dims": 3,
            "in_channels": 1,
            "out_channels": 1,
            "latent_channels": 4,
            "num_channels": [64, 128, 256],
            "num_res_blocks": [2, 2, 2],
            "norm_num_groups": 32,
            "norm_eps": 1e-6,
            "attention_levels": [False, False, False],
            "with_encoder_nonlocal_attn": False,
            "with_decoder_nonlocal_attn": False,
            "use_checkpointing": False,
            "use_convtranspose": False,
            "norm_float16": True,
            "num_splits": 4,
            "dim_split": 1,
        },
        "diffusion_unet_def": {
            **_LEVELS,
            "out_channels": 4,
            "include_top_region_index_input": False,
            "include_bottom_region_index_input": False,
            "include_spacing_input": True,
        },
        "controlnet_def": {
            **_LEVELS,
            "conditioning_embedding_in_channels": 8,
            "conditioning_embedding_num_channels": [8, 32, 64],
        },
        "noise_scheduler": {
            "num_train_timesteps": 1000,
            "use_discrete_timesteps": False,
            "use_timestep_transform": True,
            "sample_method": "uniform",
            "scale": 1.4,
        },
    }
)
"""config_network_rflow.json of NV-Generate-CTMR."""
ALLOWED_TYPES = [
    MetaTensor,
    MetaKeys,
    SpaceKeys,
    TraceKeys,
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int64DType,
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
]
"""What a file may hold beside tensors and plain Python: losses as NumPy's numbers, say."""


def read_maisi_config(folder: Path) -> dict[str, dict[str, Any]]:
    """The networks' numbers: published, or those of `CONFIG_NAME` in the folder.

    Raises:
        UnreadableFileError: If a weight file is not there, or the config is none of MAISI's.
    """
    for name in FILES.values():
        if not (folder / name).is_file():
            raise UnreadableFileError(
                f"{folder} holds no MAISI: it has no {name}; get {', '.join(FILES.values())} as "
                "NV-Generate-CT's model card says."
            )
    path = folder / CONFIG_NAME
    if not path.is_file():
        return {name: dict(part) for name, part in PUBLISHED.items()}
    try:
        document = json.loads(path.read_text("utf-8"))
        if not isinstance(document, dict):
            raise ValueError("it holds no object")
        return {name: _resolved(document, name) for name in PUBLISHED}
    except (OSError, ValueError) as error:
        raise UnreadableFileError(f"Cannot read {path}: {str(error).rstrip('.')}.") from error
    except RecursionError as error:
        raise UnreadableFileError(f"Cannot read {path}: it is nested too deeply.") from error


def _resolved(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of a bundle's config, "@name" replaced by what the document calls so."""
    if not isinstance(document.get(name), dict):
        raise ValueError(f"it has no object {name}")
    part = dict(document[name])
    target = str(part.pop("_target_", "")).rpartition(".")[2]
    wanted = CLASSES[name].__name__ if name in CLASSES else RFlowScheduler.__name__
    if target not in ("", wanted):
        raise ValueError(f"{name} is a {target}, not a {wanted}")
    for key, value in part.items():
        if isinstance(value, str) and value.startswith("@"):
            if value[1:] not in document:
                raise ValueError(f"{key} of {name} is {value}, which it does not have")
            part[key] = document[value[1:]]
    return part


def build_network(name: str, settings: Mapping[str, Any], cuda: bool) -> nn.Module:
    """A network of `CLASSES`; off a GPU without what only runs there: weights are the same.

    Raises:
        UnreadableFileError: If the numbers are none of such a network.
    """
    settings = dict(settings)
    if not cuda:
        settings["use_flash_attention"] = False
        if name == "autoencoder_def":
            settings.update(norm_float16=False, num_splits=1)
    try:
        return CLASSES[name](**settings)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise UnreadableFileError(f"MAISI's {name} cannot be built: {error}") from error


def load_maisi(folder: Path, device: torch.device | None = None) -> Maisi:
    """Read a folder of MAISI's files.

    Raises:
        UnreadableFileError: If a file is not there, damaged, holds more than weights, or weights
            that do not fit the networks.
    """
    device = device or torch.device("cpu")
    config = read_maisi_config(folder)
    networks, unused, scale_factor = [], [], None
    for name, file in FILES.items():
        document = _safely_loaded(folder / file)
        weights = next((document[key] for key in WEIGHT_KEYS if key in document), document)
        network = build_network(name, config[name], device.type == "cuda")
        unused += _fill(network, weights, folder / file)
        networks.append(network.eval().to(device))
        if name == "diffusion_unet_def":
            if "scale_factor" not in document:
                raise UnreadableFileError(
                    f"{folder / file} has no scale_factor, without which latents have no scale; "
                    "get the file as it was published."
                )
            scale_factor = _positive(document["scale_factor"], folder / file)
    assert scale_factor is not None
    try:
        scheduler = RFlowScheduler(**config["noise_scheduler"])
    except (TypeError, ValueError, ArithmeticError) as error:
        reason = str(error).removeprefix("RFlowScheduler.__init__() ").rstrip(".")
        raise UnreadableFileError(
            f"The noise_scheduler of {folder / CONFIG_NAME} cannot be built: {reason}."
        ) from error
    return Maisi(*networks, scheduler, scale_factor, tuple(unused))


def _positive(scale_factor: Any, path: Path) -> float:
    try:
        value = float(scale_factor)
    except (TypeError, ValueError, RuntimeError):
        value = math.nan
    if not 0 < value < math.inf:
        raise UnreadableFileError(
            f"The scale_factor of {path} is no number above 0; get the file as it was published."
        )
    return value


def _safely_loaded(path: Path) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(ALLOWED_TYPES):
            document = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(document, dict):
            raise ValueError("it is no dictionary of weights")
    except pickle.UnpicklingError as error:
        raise UnreadableFileError(
            f"{path} is damaged or holds more than weights, so it was not loaded; get the file as "
            "it was published."
        ) from error
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        first = (str(error).splitlines() or [""])[0][:120]
        raise UnreadableFileError(f"Cannot read {path}: {first}") from error
    return document


def _fill(network: nn.Module, weights: Mapping[str, Any], path: Path) -> list[str]:
    """Load weights; returns the names of those without a place.

    Raises:
        UnreadableFileError: If one is missing or of another shape: the network would be random.
    """
    own = network.state_dict()
    wrong = [name for name in own if name not in weights]
    wrong += [name for name in own if name in weights and weights[name].shape != own[name].shape]
    if wrong:
        raise UnreadableFileError(
            f"{path} does not fit its network: {len(wrong)} of {len(own)} weights are missing or "
            f"of another shape, first {', '.join(wrong[:3])}; is it MAISI-v2's (rflow)?"
        )
    network.load_state_dict({name: weights[name] for name in own})
    return [f"{path.name}: {name}" for name in weights if name not in own]
