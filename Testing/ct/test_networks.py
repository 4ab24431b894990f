"""Blocks, norms, and that what a network says of a place depends on its neighbourhood alone."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from XraySynthLib.ct.networks import NetworkConfig, PlaceNorm, from_blocks, to_blocks
from XraySynthLib.ct.slabs import DECODER_HALO, REFINER_HALO


class TestBlocks:
    def test_voxels_of_a_block_become_channels_k_slowest(self):
        volume = torch.arange(16.0).view(1, 1, 2, 2, 4)
        blocks = to_blocks(volume)
        assert blocks.shape == (1, 8, 1, 1, 2)
        assert blocks[0, :, 0, 0, 1].tolist() == [2, 3, 6, 7, 10, 11, 14, 15]

    def test_a_channel_keeps_its_eight_together(self):
        volume = torch.stack([torch.zeros(4, 4, 4), torch.ones(4, 4, 4)])[None]
        assert to_blocks(volume)[0, :, 1, 0, 1].tolist() == [0] * 8 + [1] * 8

    def test_back_again(self):
        volumes = torch.randn(2, 3, 4, 6, 8)
        assert torch.equal(from_blocks(to_blocks(volumes)), volumes)


def test_a_place_norm_is_layer_norm_over_channels():
    norm = PlaceNorm(8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = 3 * torch.randn(2, 8, 3, 4, 5) + 1
    expected = F.layer_norm(x.movedim(1, -1), (8,), norm.weight, norm.bias).movedim(-1, 1)
    torch.testing.assert_close(norm(x), expected)


def test_no_network_has_a_norm_or_attention_over_places(networks):
    for network in networks.values():
        kinds = {type(module).__name__ for module in network.modules()}
        assert "PlaceNorm" in kinds
        assert not {name for name in kinds if "GroupNorm" in name or "Attention" in name}


# K of a volume and the crop of it; both begin at multiples of 16.
SIZE, LOW, HIGH = 192, 16, 176


class TestLocality:
    """Away from its ends, a crop gives what the volume gives."""

    @pytest.fixture
    def kinds(self, sizes):
        random = np.random.default_rng(0)
        return torch.from_numpy(random.integers(0, sizes.n_kinds, (1, SIZE, 16, 16), np.uint8))

    @staticmethod
    def assert_same_inside(of_volume, of_crop, stride, reach):
        """Compare outputs of places further than `reach` voxels from the crop's ends."""
        inside = of_volume[:, :, (LOW + reach) // stride : (HIGH - reach) // stride]
        cropped = of_crop[:, :, reach // stride : (HIGH - LOW - reach) // stride]
        assert cropped.shape[2] > 0 and cropped.std() > 0.01
        torch.testing.assert_close(cropped, inside, rtol=0, atol=1e-5)

    @torch.inference_mode()
    def test_of_the_autoencoder(self, networks, kinds):
        values = torch.randn(1, 1, SIZE, 16, 16)
        network = networks["autoencoder"]
        whole = network.encode(values)[0]
        part = network.encode(values[:, :, LOW:HIGH])[0]
        self.assert_same_inside(whole, part, 4, 24)
        latents = torch.randn(1, 4, SIZE // 4, 4, 4)
        whole = network.decode(latents, kinds)
        part = network.decode(latents[:, :, LOW // 4 : HIGH // 4], kinds[:, LOW:HIGH])
        self.assert_same_inside(whole, part, 1, DECODER_HALO)

    @torch.inference_mode()
    def test_of_the_refiner(self, networks, kinds):
        state, guess = torch.randn(2, 1, 8, SIZE // 2, 8, 8)
        cut = slice(LOW // 2, HIGH // 2)
        times, scalars = torch.tensor([0.4]), torch.zeros(1, 5)
        whole = networks["refiner"](state, times, kinds, scalars, guess)
        part = networks["refiner"](
            state[:, :, cut], times, kinds[:, LOW:HIGH], scalars, guess[:, :, cut]
        )
        self.assert_same_inside(whole, part, 2, REFINER_HALO)

    def test_of_the_flow_of_latents(self, networks, kinds):
        """Its reach is most of a volume, so the gradient is asked instead of a crop."""
        size = 4 * SIZE
        state = torch.randn(1, 4, size // 4, 4, 4, requires_grad=True)
        velocity = networks["latents"](
            state, torch.tensor([0.4]), kinds.repeat(1, 4, 1, 1), torch.zeros(1, 5)
        )
        velocity[:, :, size // 8].sum().backward()
        seen = state.grad.abs().sum(dim=(0, 1, 3, 4)).nonzero().flatten()
        assert seen.min() > 0 and seen.max() < size // 4 - 1


class TestConditions:
    @torch.inference_mode()
    def test_an_unknown_number_is_told_from_the_mean(self, networks, sizes):
        state = torch.randn(1, 4, 4, 4, 4)
        kinds = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
        times, known = torch.tensor([0.5]), torch.zeros(1, 5)
        unknown = known.clone()
        unknown[0, 2] = float("nan")
        one, other = (networks["latents"](state, times, kinds, s) for s in (known, unknown))
        assert torch.isfinite(other).all() and (one - other).abs().max() > 1e-4

    @torch.inference_mode()
    def test_labels_can_be_withheld(self, networks, sizes):
        state = torch.randn(1, 4, 4, 4, 4)
        air = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
        withheld = torch.full_like(air, networks["latents"].withheld)
        told, untold = (
            networks["latents"](state, torch.tensor([0.5]), kinds, torch.zeros(1, 5))
            for kinds in (air, withheld)
        )
        assert (told - untold).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"refiner_channels": (12,)}, "refiner_channels must be a list of multiples of 8"),
        ({"diffusion_channels": ()}, "diffusion_channels must be a list of multiples of 8"),
        ({"autoencoder_channels": (8, 8, 8)}, "two levels"),
        ({"latent_channels": 0}, "1 or more"),
    ],
)
def test_sizes_that_are_none(wrong, words):
    with pytest.raises(ValueError, match=words):
        NetworkConfig(18, 5, **wrong)
