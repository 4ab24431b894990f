"""Losses, scales and codes; an autoencoder overfits a crop."""

import numpy as np
import pytest
import torch

from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.ct.examples import Crops
from XraySynthLib.ct.learning import (
    BONE_WEIGHT,
    autoencoder_loss,
    coded,
    latent_loss,
    latent_scale,
    new_state,
    raw_latents,
    refiner_loss,
    residual_scale,
)
from XraySynthLib.ct.networks import Autoencoder, to_blocks
from XraySynthLib.ct.tissues import KINDS, mirrored_kinds


def batch_of(*crops):
    return torch.utils.data.default_collate(list(crops))


def test_an_autoencoder_overfits_a_crop(sizes, ready):
    torch.manual_seed(0)
    batch = batch_of(Crops([ready], 16, 0)[1])
    state = new_state(Autoencoder(sizes), 100)
    bone_hu = []
    for _ in range(120):
        for group in state.optimizer.param_groups:
            group["lr"] = 2e-2
        loss, parts = autoencoder_loss(state.model, batch)
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        bone_hu.append(float(parts["bone_hu"].detach()))
    assert min(bone_hu[-20:]) < 0.35 * bone_hu[0]


def test_norms_and_biases_do_not_decay(networks):
    decayed, free = new_state(networks["autoencoder"], 1).optimizer.param_groups
    assert decayed["weight_decay"] > 0 == free["weight_decay"]
    assert {p.ndim for p in free["params"]} == {1} and 1 not in {p.ndim for p in decayed["params"]}


def test_an_error_beside_bone_weighs_as_one_in_it():
    kinds = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
    kinds[0, 4, 4, 4] = KINDS.index(Label.SACRUM)
    values = torch.zeros(1, 1, 8, 8, 8)

    def error_of(k):
        def model(values, kinds):
            wrong = values.clone()
            wrong[0, 0, k, 4, 4] = 1
            return wrong, torch.zeros(1), torch.ones(1)

        return autoencoder_loss(model, {"values": values, "kinds": kinds})[1]

    far, beside, inside = (error_of(k)["error"] for k in (1, 3, 4))
    assert inside == beside == pytest.approx(BONE_WEIGHT * far)
    assert error_of(4)["bone_hu"] == 1000 and error_of(3)["bone_hu"] == 0
    assert far.item() == pytest.approx(0.95 / 512)  # smooth L1 of 1: 1 - 0.1 / 2
    assert error_of(1)["divergence"] == 0  # of a standard normal distribution


class TestFlows:
    """A network that answers with what it should makes no loss: all it needs is in its inputs."""

    @pytest.fixture
    def batch(self):
        torch.manual_seed(0)
        values = torch.randn(2, 1, 16, 16, 16)
        return {
            "values": values,
            "guess": values - 0.05 * torch.randn_like(values),
            "latents": torch.randn(2, 4, 4, 4, 4),
            "kinds": torch.zeros(2, 16, 16, 16, dtype=torch.uint8),
            "scalars": torch.zeros(2, 5),
        }

    def test_of_latents(self, batch):
        def model(state, times, kinds, scalars, guess):
            assert guess is None
            t = times.view(-1, 1, 1, 1, 1)
            return (state - batch["latents"]) / t  # noise - data, from the state between

        assert latent_loss(model, batch)[0] < 1e-8

    def test_of_what_the_decoder_leaves_out(self, batch):
        def model(state, times, kinds, scalars, guess):
            assert torch.equal(guess, to_blocks(batch["guess"]))
            data = to_blocks((batch["values"] - batch["guess"]) / 0.05)
            assert data.std() == pytest.approx(1, abs=0.05)
            return (state - data) / times.view(-1, 1, 1, 1, 1)

        assert refiner_loss(0.05)(model, batch)[0] < 1e-8

    def test_of_a_network(self, networks, batch):
        for loss_of, part in ((latent_loss, "latents"), (refiner_loss(0.05), "refiner")):
            loss = loss_of(networks[part], batch)[0]
            loss.backward()
            assert loss > 0.5
            assert all(p.grad is not None for p in networks[part].unet.parameters())


class TestCodes:
    def test_latents_are_standardised(self, networks, ready):
        raw = raw_latents(networks["autoencoder"], ready.values_hu)
        assert raw.shape == (4, 12, 8, 8)
        scale = latent_scale([raw, raw])
        latents = coded(networks["autoencoder"], ready, scale).latents[0].astype(np.float32)
        np.testing.assert_allclose(latents.mean(axis=(1, 2, 3)), 0, atol=2e-3)
        np.testing.assert_allclose(latents.std(axis=(1, 2, 3)), 1, atol=2e-3)

    @torch.inference_mode()
    def test_both_are_what_the_autoencoder_makes(self, networks, ready):
        codes = coded(networks["autoencoder"], ready, ((0.0,) * 4, (1.0,) * 4))
        assert codes.latents.dtype == codes.guesses.dtype == np.float16
        mirrored = torch.from_numpy(ready.values_hu[..., ::-1] / np.float32(1000))[None, None]
        latents = networks["autoencoder"].encode(mirrored)[0]
        np.testing.assert_allclose(codes.latents[1], latents[0], atol=2e-3)
        kinds = torch.from_numpy(mirrored_kinds(ready.kinds))[None]
        decoded = networks["autoencoder"].decode(latents, kinds)
        np.testing.assert_allclose(codes.guesses[1], decoded[0, 0], atol=2e-3)

    def test_scale_of_what_is_left_out(self, networks, ready):
        codes = coded(networks["autoencoder"], ready, ((0.0,) * 4, (1.0,) * 4))
        codes.guesses[:] = (ready.values_hu / 1000)[None] - 0.25
        assert residual_scale([ready], [codes]) == pytest.approx(0.25, rel=1e-3)
