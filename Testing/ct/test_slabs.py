"""A volume in slabs is the volume whole."""

import pytest
import torch

from XraySynthLib.ct import slabs
from XraySynthLib.ct.slabs import DECODER_HALO, REFINER_HALO, in_slabs
from XraySynthLib.ct.tissues import scalars_of


@pytest.fixture
def kinds(sizes):
    random = torch.Generator().manual_seed(3)
    return torch.randint(0, sizes.n_kinds, (1, 208, 16, 16), generator=random)


@pytest.fixture
def small_slabs(monkeypatch):
    """Slabs of 64 voxels where the halo is as far as the refiner sees."""
    monkeypatch.setattr(slabs, "SLAB_VOXELS", (64 + 2 * REFINER_HALO) * 16 * 16)


def test_pieces_are_cut_and_put_together_on_every_grid(small_slabs, kinds):
    seen = []

    def network(coarse, kinds):
        seen.append((coarse.shape[2], kinds.shape[1]))
        return 2 * coarse

    coarse = torch.arange(52.0).view(1, 1, 52, 1, 1)
    assert torch.equal(in_slabs(network, REFINER_HALO, kinds, coarse), 2 * coarse)
    # Of 0..64, 64..128, 128..192, 192..208, each with 64 more at both ends where they are there.
    assert seen == [(32, 128), (48, 192), (36, 144), (20, 80)]


def test_a_small_volume_is_not_cut(kinds):
    shapes = []
    in_slabs(lambda kinds: shapes.append(kinds.shape) or kinds, 32, kinds)
    assert shapes == [kinds.shape]


@torch.inference_mode()
def test_the_decoder(networks, kinds, small_slabs):
    latents = torch.randn(1, 4, 52, 4, 4)
    decode = networks["autoencoder"].decode
    made = in_slabs(decode, DECODER_HALO, kinds, latents)
    torch.testing.assert_close(made, decode(latents, kinds), rtol=0, atol=1e-4)


def test_a_generator(generator, kinds, monkeypatch):
    """Steps of the refiner, each in slabs: what one step leaves is seen by the next."""
    scalars = scalars_of({})
    steps = {"latent_steps": 1, "refiner_steps": 2}
    whole = generator.generate(kinds[0].numpy(), scalars, 5, **steps)
    with monkeypatch.context() as patch:
        patch.setattr(slabs, "SLAB_VOXELS", (64 + 2 * REFINER_HALO) * 16 * 16)
        cut = generator.generate(kinds[0].numpy(), scalars, 5, **steps)
    assert whole.std() > 50
    assert abs(whole - cut).max() <= 1  # whole HU may round the other way
    assert (whole == cut).mean() > 0.99
