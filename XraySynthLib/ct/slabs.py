"""Large volumes in slabs along k, with nothing lost: the networks see no further than a halo."""

from collections.abc import Callable

import torch

from XraySynthLib.ct.networks import MULTIPLE

SLAB_VOXELS = 2**24
"""What is computed at once, halos included: a volume of 256 x 256 x 256."""
DECODER_HALO, REFINER_HALO = 32, 64
"""How far, in voxels, the decoder and the flow at full resolution see from a place."""


def in_slabs(
    network: Callable[..., torch.Tensor], halo: int, kinds: torch.Tensor, *others: torch.Tensor
) -> torch.Tensor:
    """What a network makes of a volume; of slabs of it where it is larger than `SLAB_VOXELS`.

    Args:
        network: Of the others and the kinds, in this order.
        halo: How far it sees, voxels; a multiple of 16.
        kinds: (B, K, J, I), K a multiple of 16.
        others: (B, C, k, j, i) of the same volume, on grids of their own.
    """
    size, area = kinds.shape[1], kinds.shape[2] * kinds.shape[3]
    if size * area <= SLAB_VOXELS:
        return network(*others, kinds)
    thickness = max(SLAB_VOXELS // area - 2 * halo, halo) // MULTIPLE * MULTIPLE
    parts = []
    for low in range(0, size, thickness):
        high = min(low + thickness, size)
        start, stop = max(low - halo, 0), min(high + halo, size)
        slab = network(*(_cut(one, start, stop, size) for one in (*others, kinds)))
        parts.append(_cut(slab, low - start, high - start, stop - start))
    return torch.cat(parts, dim=-3)


def _cut(tensor: torch.Tensor, low: int, high: int, size: int) -> torch.Tensor:
    """Voxels `low` to `high` of `size` along k, on the tensor's own grid."""
    stride = size // tensor.shape[-3]
    return tensor[..., low // stride : high // stride, :, :]
