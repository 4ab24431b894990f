"""MAISI-v2 (NVIDIA's NV-Generate-CT) from the user's own files, by MONAI's networks.

Files in its folder: `FILES`, and perhaps config_network_rflow.json where the networks are not those
published. Nothing is fetched here: the weights are under NVIDIA's licence, see the model card.
What follows is after NV-Generate-CTMR's scripts (Apache-2.0), but for the fields said below.
"""

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.controlnet_maisi import ControlNetMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.schedulers import RFlowScheduler
from monai.utils.enums import MetaKeys, SpaceKeys, TraceKeys
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from XraySynthLib.anatomy.tissues import Label
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

SIZES_XY, SIZES_Z = (256, 384, 512), (128, 256, 384, 512, 640, 768)
SPACING_XY_MM, SPACING_Z_MM, LEAST_FIELD_MM = (0.5, 3.0), (0.5, 5.0), 384.0
STEPS, CT, SPACING_UNIT = 30, 1, 100.0
WINDOW, OVERLAP = 48, 0.4
"""Of decoding in pieces, latent places."""
BODY_ID, L5_ID, LAST_VERTEBRA_ID = 200, 33, 49
MAISI_IDS = MappingProxyType(
    {
        Label.LEFT_HEMIPELVIS: 95,
        Label.RIGHT_HEMIPELVIS: 96,
        Label.SACRUM: 97,
        Label.COCCYX: 97,
        Label.LEFT_FEMUR: 93,
        Label.RIGHT_FEMUR: 94,
        Label.BLADDER: 15,
        Label.BOWEL: 62,
        Label.GAS: 62,
        Label.AIR: 0,
        Label.TABLE: 0,
    }
)
"""Of what is not here, vertebrae go by their level and all else is body."""
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


def check_maisi_grid(shape: tuple[int, int, int], spacing_mm: float) -> None:
    """Refuse volumes that MAISI was not made for.

    Args:
        shape: (K, J, I).
        spacing_mm: Edge of a voxel.

    Raises:
        ValueError: Saying what it takes.
    """
    z, y, x = shape
    if x != y or x not in SIZES_XY or z not in SIZES_Z:
        raise ValueError(
            f"MAISI makes {', '.join(map(str, SIZES_XY))} voxels along x and y alike and "
            f"{', '.join(map(str, SIZES_Z))} along z, not {x} x {y} x {z}"
        )
    (low, high), (low_z, high_z) = SPACING_XY_MM, SPACING_Z_MM
    if not max(low, low_z) <= spacing_mm <= min(high, high_z):
        raise ValueError(f"MAISI makes voxels of {low:g} to {high:g} mm, not {spacing_mm:g} mm")
    if x * spacing_mm < LEAST_FIELD_MM:
        raise ValueError(
            f"MAISI needs a field of view of {LEAST_FIELD_MM:g} mm or more along x and y, not "
            f"{x * spacing_mm:g} mm"
        )


def maisi_ids(labels: NDArray) -> NDArray:
    """A label map in MAISI's ids, body where it has no name for a tissue.

    Args:
        labels: (K, J, I) `Label`.

    Returns:
        (K, J, I) uint8. Vertebrae are counted upwards, the lowest is L5.

    Raises:
        ValueError: If it holds metal, which MAISI does not know.
    """
    if (labels == Label.IMPLANT).any():
        raise ValueError("MAISI makes no implants; take them out of the labels")
    table = np.full(max(Label) + 1, BODY_ID, np.uint8)
    for label, maisi_id in MAISI_IDS.items():
        table[label] = maisi_id
    ids = table[labels]
    spine = labels == Label.VERTEBRAE
    # Facets touch: bodies are told apart where a voxel is taken off all round.
    seeds, count = ndimage.label(ndimage.binary_erosion(spine, border_value=1))
    if not count:
        ids[spine] = L5_ID
        return ids
    sizes = np.bincount(seeds.ravel())[1:]
    numbers = 1 + np.flatnonzero(sizes > 0.2 * sizes.max())
    heights = [k for k, _, _ in ndimage.center_of_mass(seeds > 0, seeds, numbers)]
    levels = np.zeros(count + 1, np.uint8)
    levels[numbers[np.argsort(heights)]] = np.minimum(
        L5_ID + np.arange(len(numbers)), LAST_VERTEBRA_ID
    )
    nearest = ndimage.distance_transform_edt(
        levels[seeds] == 0, return_distances=False, return_indices=True
    )
    ids[spine] = levels[seeds][tuple(nearest)][spine]
    return ids


def binary_code(ids: torch.Tensor) -> torch.Tensor:
    """(B, X, Y, Z) ids of 0 to 255 as their eight bits, the lowest first: (B, 8, X, Y, Z)."""
    return torch.stack([ids.long() >> bit & 1 for bit in range(8)], dim=1).float()


@dataclass(frozen=True, eq=False)
class Maisi:
    """The three networks and what goes with them.

    Attributes:
        autoencoder: Decodes latents.
        unet: The flow of latents.
        controlnet: Brings the label map to it.
        scheduler: Times of sampling.
        scale_factor: Of the latents.
        unused: Names of weights that the networks have no place for.
    """

    autoencoder: AutoencoderKlMaisi
    unet: DiffusionModelUNetMaisi
    controlnet: ControlNetMaisi
    scheduler: RFlowScheduler
    scale_factor: float
    unused: tuple[str, ...] = ()

    @torch.inference_mode()
    def generate(
        self, labels: NDArray, spacing_mm: float, seed: int, n_steps: int = STEPS
    ) -> NDArray:
        """Make a CT of a label map on a `Grid`: i to the left, j to the back, k to the head.

        Args:
            labels: (K, J, I) `Label`.
            spacing_mm: Edge of a voxel.
            seed: Of the noise.
            n_steps: Evaluations of the flow.

        Returns:
            (K, J, I) float32, whole HU in +-1000.
        """
        device = next(self.unet.parameters()).device
        ids = torch.from_numpy(_to_ras(maisi_ids(labels)).astype(np.int64))[None].to(device)
        noise = torch.randn(
            (1, self.unet.in_channels, *(size // 4 for size in ids.shape[1:])),
            generator=torch.Generator().manual_seed(seed),
        )
        with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
            latents = self._latents(noise.to(device), binary_code(ids), spacing_mm, n_steps)
            values = self._decoded(latents / self.scale_factor)
        hu = values.float().clamp(0, 1).cpu() * 2000 - 1000
        hu[0, 0][ids[0].cpu() == 0] = -1000
        return np.round(_from_ras(hu[0, 0].numpy()))

    def _latents(
        self, state: torch.Tensor, code: torch.Tensor, spacing_mm: float, n_steps: int
    ) -> torch.Tensor:
        """(1, 4, X / 4, Y / 4, Z / 4) from noise."""
        spacing = torch.full((1, 3), SPACING_UNIT * spacing_mm, device=state.device)
        modality = torch.full((1,), CT, device=state.device)
        self.scheduler.set_timesteps(n_steps, input_img_size_numel=state[0, 0].numel())
        for now, then in pairwise([*self.scheduler.timesteps.tolist(), 0.0]):
            times = torch.full((1,), now, device=state.device)
            # MONAI's inferer would first shrink the labels to the latents' size; the ControlNet has
            # layers of its own for that.
            down, middle = self.controlnet(
                x=state, timesteps=times, controlnet_cond=code, class_labels=modality
            )
            velocity = self.unet(
                x=state,
                timesteps=times,
                class_labels=modality,
                spacing_tensor=spacing,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            )
            # As RFlowScheduler.step, which cuts `then` to a whole number. MAISI's flow predicts
            # data - noise.
            state = state + velocity * ((now - then) / self.scheduler.num_train_timesteps)
        return state

    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        window = tuple(min(size, WINDOW) for size in latents.shape[2:])
        inferer = SlidingWindowInferer(window, overlap=OVERLAP, mode="gaussian", device="cpu")
        return inferer(latents, self.autoencoder.decode_stage_2_outputs)


def _to_ras(array: NDArray) -> NDArray:
    """(K, J, I), i to the left and j to the back -> (X, Y, Z) to the right, front and head."""
    return np.ascontiguousarray(array[:, ::-1, ::-1].transpose(2, 1, 0))


def _from_ras(array: NDArray) -> NDArray:
    return np.ascontiguousarray(array.transpose(2, 1, 0)[:, ::-1, ::-1])


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
        return {name: _resolved(document, name) for name in PUBLISHED}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableFileError(f"Cannot read {path}: {error!r} is wrong in it.") from error


def _resolved(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of a bundle's config, "@name" replaced by what the document calls so."""
    part = dict(document[name])
    target = part.pop("_target_", "").rpartition(".")[2]
    wanted = CLASSES[name].__name__ if name in CLASSES else RFlowScheduler.__name__
    if target not in ("", wanted):
        raise ValueError(f"{name} is a {target}, not a {wanted}")
    return {
        key: document[value[1:]] if isinstance(value, str) and value.startswith("@") else value
        for key, value in part.items()
    }


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
            scale_factor = float(document["scale_factor"])
    assert scale_factor is not None
    scheduler = RFlowScheduler(**config["noise_scheduler"])
    return Maisi(*networks, scheduler, scale_factor, tuple(unused))


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
