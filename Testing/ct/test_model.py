"""A generator's folder, and what it makes."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from XraySynthLib.anatomy.shape_model import load_shape_model
from XraySynthLib.anatomy.subject import COMPACT
from XraySynthLib.ct.model import (
    Generator,
    load_generator,
    read_generator_config,
    save_generator,
)
from XraySynthLib.ct.networks import Autoencoder
from XraySynthLib.ct.tissues import KIND_NAMES, KINDS, QUALITY, bone_mask, scalars_of
from XraySynthLib.ct.tissues import SCALARS as NUMBERS
from XraySynthLib.data.sets.parts import sha256_of
from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.workflows.ct_generator import SHIPPED

NAN = math.nan
SIZES = {"n_kinds": len(KINDS), "n_scalars": len(NUMBERS), "latent_channels": 4}
STEPS = {"latent_steps": 2, "refiner_steps": 2}
SCALARS = scalars_of({"fat_mm": 30.0})
KNOWN = scalars_of({name: middle for name, (middle, _) in NUMBERS.items()})


@pytest.fixture
def kinds():
    return np.random.default_rng(0).integers(0, len(KINDS), (16, 32, 16), np.uint8)


@pytest.fixture
def whole_config(generator_config):
    """With every field that it can have."""
    return replace(generator_config, hu_maps={"fat": ((-120.0, -80.0), (-110.0, -90.0))})


@pytest.fixture
def folder(whole_config, networks, tmp_path):
    save_generator(whole_config, networks, tmp_path / "model")
    return tmp_path / "model"


class TestGenerate:
    def test_same_seed_same_values(self, generator, kinds):
        one, again, other = (generator.generate(kinds, SCALARS, s, **STEPS) for s in (1, 1, 2))
        assert np.array_equal(one, again)
        assert (one != other).mean() > 0.5

    def test_whole_hu_of_a_scanner(self, generator, kinds):
        values = generator.generate(kinds, SCALARS, 0, **STEPS)
        assert values.dtype == np.float32 and values.shape == kinds.shape
        assert np.array_equal(values, np.round(values))
        assert values.min() >= -1024 and values.max() <= 3071

    def test_any_size_is_padded_with_air_and_cut_again(self, generator, kinds):
        cut = kinds[:9, 3:28, :11]
        padded = np.pad(cut, ((3, 4), (3, 4), (2, 3)))
        values = generator.generate(cut, SCALARS, 3, **STEPS)
        assert values.shape == (9, 25, 11)
        whole = generator.generate(padded, SCALARS, 3, **STEPS)
        assert np.array_equal(values, whole[3:12, 3:28, 2:13])

    def test_labels_and_numbers_matter(self, generator, kinds):
        one = generator.generate(kinds, SCALARS, 0, **STEPS)
        assert (one != generator.generate(kinds[::-1].copy(), SCALARS, 0, **STEPS)).mean() > 0.5
        assert (one != generator.generate(kinds, SCALARS + 1, 0, **STEPS)).any()

    def test_what_each_guidance_asks_beside(self, generator, kinds, monkeypatch):
        asked = []
        code, velocity = generator.latents.code, generator.latents.velocity

        def marked(kinds):
            withheld = bool((kinds == generator.latents.withheld).all())
            return code(kinds), withheld

        def spy(state, times, marked, scalars):
            asked.append((marked[1], int(scalars.isnan().sum())))
            return velocity(state, times, marked[0], scalars)

        monkeypatch.setattr(generator.latents, "code", marked)
        monkeypatch.setattr(generator.latents, "velocity", spy)

        def made(scalars=KNOWN, **weights):
            asked.clear()
            return generator.generate(
                kinds, scalars, 0, latent_steps=1, refiner_steps=0, **weights
            ), list(asked)

        plain, alone = made(guidance=1, quality_guidance=1)
        labels, with_none = made(guidance=3, quality_guidance=1)
        quality, without_quality = made(guidance=1, quality_guidance=3)
        assert alone == [(False, 0)]
        assert with_none == [(False, 0), (True, len(KNOWN))]
        assert without_quality == [(False, 0), (False, 1)]
        assert (plain != labels).any() and (plain != quality).any()
        unknown = np.where(np.arange(len(KNOWN)) == QUALITY, np.nan, KNOWN)
        assert made(unknown, guidance=1, quality_guidance=3)[1] == [(False, 1)]

    def test_hu_are_mapped_by_tissue(self, generator, generator_config, networks, kinds):
        plain = generator.generate(kinds, SCALARS, 0, **STEPS)
        name = KIND_NAMES[int(kinds.max())]
        config = replace(generator_config, hu_maps={name: ((0.0, 1.0), (500.0, 501.0))})
        other = Generator(config, **networks).generate(kinds, SCALARS, 0, **STEPS)
        here = kinds == kinds.max()
        assert np.array_equal(other[~here], plain[~here])
        here &= (plain > -1000) & (plain < 2500)  # elsewhere the scanner's range cuts
        assert here.sum() > 100 and np.abs(other[here] - plain[here] - 500).max() <= 1

    def test_without_refining_it_is_what_the_decoder_makes(self, generator, kinds):
        smooth = generator.generate(kinds, SCALARS, 0, latent_steps=2, refiner_steps=0)
        refined = generator.generate(kinds, SCALARS, 0, **STEPS)
        assert 0 < np.abs(smooth - refined).max() < 1000 * generator.config.residual_scale * 10

    def test_maps_take_what_the_scanners_range_leaves(self, generator, monkeypatch):
        nothing = torch.full((1, 1, 16, 16, 16), -5.0)
        maps = {"muscle": ((-1024.0, 0.0), (10.0, 20.0))}
        mapping = Generator(
            replace(generator.config, hu_maps=maps),
            generator.autoencoder, generator.latents, generator.refiner,
        )  # fmt: skip
        kinds = np.full((16, 16, 16), KIND_NAMES.index("muscle"), np.uint8)
        monkeypatch.setattr(mapping.autoencoder, "decode", lambda latents, kinds: nothing)
        made = mapping.generate(kinds, SCALARS, 0, latent_steps=1, refiner_steps=0)
        assert (made == 10).all()

    def test_temperature_is_the_deviation_of_the_noise_in_bones(
        self, generator, kinds, monkeypatch
    ):
        """A flow that makes nothing but noise: without noise nothing is added."""
        monkeypatch.setattr(generator.refiner, "forward", lambda s, t, k, n, g: torch.zeros_like(s))
        none, half, whole = (
            generator.generate(kinds, SCALARS, 0, bone_temperature=temperature, **STEPS)
            for temperature in (0.0, 0.5, 1.0)
        )
        bone = bone_mask(kinds)
        assert np.array_equal(none[~bone], whole[~bone])
        inside = bone & (np.abs(none) < 900)
        assert (whole - none)[inside].std() == pytest.approx(1000 * 0.05, rel=0.1)
        assert np.abs((whole - none) - 2 * (half - none))[inside].max() <= 2  # whole HU

    @torch.inference_mode()
    def test_latents_are_brought_back_to_the_decoders_scale(self, generator, kinds, monkeypatch):
        """A flow that makes nothing but noise: the decoder gets it scaled, channel by channel."""
        seen = []

        def spy(latents, kinds):
            seen.append(latents)
            return torch.zeros(1, 1, *kinds.shape[1:])

        monkeypatch.setattr(generator.latents, "velocity", lambda s, t, c, n: torch.zeros_like(s))
        monkeypatch.setattr(generator.autoencoder, "decode", spy)
        generator.generate(kinds, SCALARS, 9, latent_steps=1, refiner_steps=0)
        noise = torch.randn(1, 4, 4, 8, 4, generator=torch.Generator().manual_seed(9))
        for channel, (mean, deviation) in enumerate(((0.1, 1), (0.2, 2), (0.3, 3), (0.4, 4))):
            expected = noise[:, channel] * deviation + mean
            torch.testing.assert_close(seen[0][:, channel], expected)

    @torch.inference_mode()
    def test_guidance_leads_away_from_what_knows_less(self, generator, kinds, monkeypatch):
        """Velocities 1 told all, 0.5 without labels, 0.2 without quality; weights 3 and 2.

        1 + 2 (1 - 0.5) + 1 (1 - 0.2) = 2.8, which one step takes off the noise.
        """
        seen = []

        def velocity(state, times, kinds, scalars):
            withheld = bool((kinds == generator.latents.withheld).all())
            value = 0.5 if withheld else 0.2 if scalars[0, QUALITY].isnan() else 1.0
            return torch.full_like(state, value)

        def spy(latents, kinds):
            seen.append(latents)
            return torch.zeros(1, 1, *kinds.shape[1:])

        monkeypatch.setattr(generator.latents, "code", lambda kinds: kinds)
        monkeypatch.setattr(generator.latents, "velocity", velocity)
        monkeypatch.setattr(generator.autoencoder, "decode", spy)
        options = {"latent_steps": 1, "refiner_steps": 0, "guidance": 3.0, "quality_guidance": 2.0}
        generator.generate(kinds, KNOWN, 9, **options)
        noise = torch.randn(1, 4, 4, 8, 4, generator=torch.Generator().manual_seed(9))
        expected = 2 * (noise[:, 1] - 2.8) + 0.2  # the second channel: deviation 2, mean 0.2
        torch.testing.assert_close(seen[0][:, 1], expected)


class TestFolder:
    def test_there_and_back(self, folder, whole_config, networks, kinds):
        assert sorted(path.name for path in folder.iterdir()) == [
            "autoencoder.safetensors", "config.json", "latents.safetensors", "refiner.safetensors",
        ]  # fmt: skip
        loaded = load_generator(folder)
        assert loaded.config == whole_config and loaded.config.hu_maps
        made = Generator(whole_config, **networks)
        one, other = (g.generate(kinds, SCALARS, 0, **STEPS) for g in (loaded, made))
        assert np.abs(one - other).max() < 30 and np.abs(one - other).mean() < 3  # 16 bits

    def test_written_again_it_is_the_new_one(self, folder, generator_config, networks):
        save_generator(replace(generator_config, name="second"), networks, folder)
        assert load_generator(folder).config.name == "second"

    @pytest.mark.parametrize("part", ["autoencoder", "latents", "refiner"])
    def test_weights_that_are_missing_damaged_or_of_another_network(self, folder, part, tmp_path):
        path = folder / f"{part}.safetensors"
        weights = path.read_bytes()
        path.write_bytes(weights[:1000])
        self.refused(folder, f"{part}.safetensors.* is damaged")
        other = folder / ("latents.safetensors" if part != "latents" else "refiner.safetensors")
        path.write_bytes(other.read_bytes())
        self.refused(folder, f"{part}.safetensors.* another network than config.json says")
        path.unlink()
        self.refused(folder, f"{part}.safetensors.* is missing")

    @staticmethod
    def refused(folder, words):
        with pytest.raises(UnreadableFileError, match=words) as caught:
            load_generator(folder)
        assert "\n" not in str(caught.value) and str(caught.value).count(". ") == 0

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"format": "something"}, "no CT generator's"),
            ({"format_version": 2}, "another version; update XraySynth"),
            ({"name": 7}, "name must be text in quotes, got 7"),
            ({"people": "anna"}, "people must be a list of names, got 'anna'"),
            ({"people": ["anna", 7]}, "people must be a list of names"),
            ({"latent_mean": [0.0]}, "latent_mean must be 4 numbers"),
            ({"latent_mean": [0, 0, 0, NAN]}, "latent_mean must be finite"),
            ({"latent_deviation": [1, 1, 1, 0]}, "latent_deviation must be finite and above 0"),
            ({"latent_deviation": None}, "latent_deviation must be 4 numbers, got None"),
            ({"residual_scale": "0.05"}, "residual_scale must be a number, got '0.05'"),
            ({"residual_scale": [0.05]}, "residual_scale must be a number"),
            ({"residual_scale": -1}, "residual_scale must be finite and above 0, got -1"),
            ({"least_agreement": "x"}, "least_agreement must be a number, got 'x'"),
            ({"least_agreement": NAN}, "least_agreement must be finite, got nan"),
            ({"spacing_mm": ["2", "3"]}, "spacing_mm must be 2 numbers"),
            ({"spacing_mm": [2.5]}, "spacing_mm must be 2 numbers"),
            ({"spacing_mm": 2.5}, "spacing_mm must be 2 numbers, got 2.5"),
            ({"spacing_mm": [3.4, 2.5]}, "spacing_mm must not fall"),
            ({"tissue_hu": []}, "tissue_hu must be an object"),
            ({"tissue_hu": {"brain": [1, 2, 3, 0]}}, "tissue_hu must be an object of tissues"),
            ({"tissue_hu": {"fat": [1, 2, NAN, 0]}}, "tissue_hu of fat must be finite"),
            ({"tissue_hu": {"fat": [3, 2, 1, 0]}}, "tissue_hu of fat must not fall"),
            ({"tissue_hu": {"fat": [1, 2]}}, "tissue_hu of fat must be 4 numbers"),
            ({"tissue_hu": {"fat": ["1", "2", "3", "4"]}}, "tissue_hu of fat must be 4 numbers"),
            ({"tissue_hu": {"fat": "abc"}}, "tissue_hu of fat must be 4 numbers, got 'abc'"),
            ({"hu_maps": {"fat": [[], []]}}, "hu_maps of fat must be numbers"),
            ({"hu_maps": {"fat": ["12", "34"]}}, "hu_maps of fat must be numbers, got '12'"),
            ({"hu_maps": {"fat": [["1"], ["2"]]}}, "hu_maps of fat must be numbers"),
            ({"hu_maps": {"fat": [[1, 2], [1]]}}, "hu_maps of fat must be 2 numbers"),
            ({"hu_maps": {"fat": [[2, 1], [1, 2]]}}, "hu_maps of fat must not fall"),
            ({"hu_maps": {"fat": [[1, 2], [1, math.inf]]}}, "hu_maps of fat must be finite"),
            ({"hu_maps": {"fat": [[1, 2]]}}, "hu_maps of fat must be two lists"),
            ({"hu_maps": {"brain": [[1], [2]]}}, "hu_maps must be an object of tissues"),
            ({"scalars": ["age", "fat_mm", "belly_mm", "bone_quality", "noise_hu"]}, "tissues or"),
            ({"kinds": [kind.name for kind in KINDS]}, "tissues or numbers of another version"),
            ({"networks": {"n_kinds": 18}}, "networks lacks 'n_scalars'"),
            ({"networks": {**SIZES, "head_channels": -8}}, "head_channels must be a multiple of 8"),
            ({"networks": {**SIZES, "head_channels": 24.5}}, "a multiple of 8, got 24.5"),
            ({"networks": {**SIZES, "refiner_channels": 8}}, "refiner_channels must be a list of"),
            ({"networks": 3}, "networks must be an object, got 3"),
            ({"depth": 3}, "it has 'depth', which is unknown here"),
        ],
    )
    def test_a_config_that_cannot_be(self, folder, change, words):
        path = folder / "config.json"
        document = json.loads(path.read_text())
        path.write_text(json.dumps({**document, **change}))
        with pytest.raises(UnreadableFileError, match=words) as caught:
            read_generator_config(folder)
        assert str(caught.value).endswith(".") and "__init__" not in str(caught.value)

    @pytest.mark.parametrize("name", ["networks", "kinds", "latent_mean", "tissue_hu", "people"])
    def test_a_config_that_lacks_something(self, folder, name):
        path = folder / "config.json"
        document = json.loads(path.read_text())
        del document[name]
        path.write_text(json.dumps(document))
        with pytest.raises(UnreadableFileError, match=f"it lacks '{name}'."):
            read_generator_config(folder)

    def test_weights_that_are_not_finite(self, folder):
        path = folder / "refiner.safetensors"
        weights = load_file(path)
        next(iter(weights.values())).view(-1)[0] = math.nan
        save_file(weights, path)
        self.refused(folder, "refiner.safetensors holds weights that are not finite")

    def test_no_config(self, folder):
        for text, words in (("{", "Expecting"), ("[" * 100_000, "nested too deeply")):
            (folder / "config.json").write_text(text)
            with pytest.raises(UnreadableFileError, match=f"Cannot read .*config.json: .*{words}"):
                read_generator_config(folder)
        (folder / "config.json").unlink()
        with pytest.raises(UnreadableFileError, match="holds no CT generator"):
            load_generator(folder)

    def test_a_failure_while_writing_leaves_no_whole_model(
        self, folder, generator_config, networks, monkeypatch
    ):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("XraySynthLib.ct.model.save_tensors", full)
        with pytest.raises(OSError, match="No space"):
            save_generator(generator_config, networks, folder)
        with pytest.raises(UnreadableFileError, match="holds no CT generator"):
            read_generator_config(folder)


class TestShipped:
    def test_its_configuration_is_the_codes(self):
        config = read_generator_config(SHIPPED)
        assert config.kinds == KIND_NAMES and config.scalars == tuple(NUMBERS)
        assert config.hu_maps and set(config.hu_maps) | set(config.tissue_hu) <= set(KIND_NAMES)
        assert config.spacing_mm[0] <= COMPACT[1] <= config.spacing_mm[1]

    def test_the_held_out_people_are_not_behind_it(self):
        people = set(read_generator_config(SHIPPED).people)
        model = load_shape_model()
        assert not {f"musculoskeletal-models-{n}" for n in model.held_out} & people
        assert {f"musculoskeletal-models-{n}" for n in model.training} <= people

    def test_its_card_is_of_these_weights(self):
        card = (SHIPPED / "README.md").read_text("utf-8")
        for part in ("autoencoder", "latents", "refiner"):
            (found,) = re.findall(rf"`{part}` `([0-9a-f]{{12}})", card)
            assert sha256_of(SHIPPED / f"{part}.safetensors").startswith(found)

    def test_it_makes_tissues_of_their_hu(self):
        """A trunk of muscle in fat with a sacrum, 32 voxels a side."""
        kinds = np.zeros((32, 32, 32), np.uint8)
        for low, name in ((3, "fat"), (7, "muscle"), (12, "sacrum")):
            kinds[:, low:-low, low:-low] = KIND_NAMES.index(name)
        values = load_generator(SHIPPED).generate(kinds, KNOWN, 0, **STEPS)
        air, fat, muscle, sacrum = (
            np.median(values[kinds == KIND_NAMES.index(name)])
            for name in ("air", "fat", "muscle", "sacrum")
        )
        assert air < -950 and -130 < fat < -60 and 20 < muscle < 80 and 80 < sacrum < 500


def test_sizes_that_do_not_fit(generator_config, sizes):
    with pytest.raises(ValueError, match="latent_mean must be 3 numbers"):
        replace(generator_config, networks=replace(sizes, latent_channels=3))


def test_weights_have_names_that_stay(sizes):
    """Shipped weights are found by them."""
    names = {name.partition(".")[0] for name in Autoencoder(sizes).state_dict()}
    assert names == {"body", "labels", "head"}
