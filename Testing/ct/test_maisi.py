"""MAISI's files, read safely; its networks, asked as they were trained. Tiny ones of its classes.

Nothing here has seen the real weights: their names and shapes are checked by the published config.
"""

import json
import os

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.networks.schedulers import RFlowScheduler

from XraySynthLib.anatomy.tissues import Label
from XraySynthLib.ct import maisi, maisi_files
from XraySynthLib.errors import UnreadableFileError

TINY = {
    "latent_channels": 4,
    "autoencoder_def": {
        **maisi_files.PUBLISHED["autoencoder_def"],
        "_target_": "monai.apps.generation.maisi.networks.autoencoderkl_maisi.AutoencoderKlMaisi",
        "latent_channels": "@latent_channels",
        "num_channels": [8, 8, 8],
        "num_res_blocks": [1, 1, 1],
        "norm_num_groups": 8,
    },
    "diffusion_unet_def": {
        **maisi_files.PUBLISHED["diffusion_unet_def"],
        "in_channels": "@latent_channels",
        "num_channels": [32, 32],
        "attention_levels": [False, True],
        "num_head_channels": [0, 32],
        "num_res_blocks": 1,
    },
    "controlnet_def": {
        **maisi_files.PUBLISHED["controlnet_def"],
        "num_channels": [32, 32],
        "attention_levels": [False, True],
        "num_head_channels": [0, 32],
        "num_res_blocks": 1,
        "conditioning_embedding_num_channels": [8, 8, 8],
    },
    "noise_scheduler": dict(maisi_files.PUBLISHED["noise_scheduler"]),
}
SCALE = 0.8
FOLDER_FILES = tuple(maisi_files.FILES.values())
AUTOENCODER, UNET, CONTROLNET = FOLDER_FILES


def randomised(network, seed):
    """Weights of no layer are zero, so that each leaves its mark."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return network.state_dict()


@pytest.fixture
def a_folder(tmp_path):
    """MAISI's files as published: where the weights are, what lies beside them."""
    (tmp_path / maisi_files.CONFIG_NAME).write_text(json.dumps(TINY), "utf-8")
    config = {name: maisi_files._resolved(TINY, name) for name in maisi_files.FILES}
    states = [
        randomised(maisi_files.build_network(name, config[name], cuda=False), n)
        for n, name in enumerate(maisi_files.FILES)
    ]
    beside = {"epoch": 7, "loss": np.float64(0.25), "num_train_timesteps": 1000}
    scale = MetaTensor(torch.tensor(SCALE))
    torch.save(states[0], tmp_path / AUTOENCODER)
    unet = {"unet_state_dict": states[1], "scale_factor": scale, **beside}
    torch.save(unet, tmp_path / UNET)
    torch.save({"controlnet_state_dict": states[2], **beside}, tmp_path / CONTROLNET)
    return tmp_path


def test_the_published_networks_have_their_sizes():
    """Numbers of weights as published: 20.9, 180.5 and 72.0 million."""
    with torch.device("meta"):
        built = [
            maisi_files.build_network(n, maisi_files.PUBLISHED[n], cuda=False)
            for n in maisi_files.FILES
        ]
    states = [
        {name: tuple(t.shape) for name, t in network.state_dict().items()} for network in built
    ]
    counts = [sum(int(np.prod(shape)) for shape in state.values()) for state in states]
    assert counts == [20944897, 180500868, 72037072]
    autoencoder, unet, controlnet = states
    assert autoencoder["post_quant_conv.conv.weight"] == (4, 4, 1, 1, 1)
    assert unet["spacing_layer.0.weight"] == (256, 3)
    assert unet["class_embedding.weight"] == (128, 256)
    assert unet["down_blocks.2.attentions.0.attn.to_q.weight"] == (256, 256)
    assert unet["out.2.conv.weight"] == (4, 64, 3, 3, 3)
    assert controlnet["controlnet_cond_embedding.conv_in.conv.weight"] == (8, 8, 3, 3, 3)
    assert controlnet["controlnet_mid_block.conv.weight"] == (512, 512, 1, 1, 1)


@pytest.fixture
def labels():
    """A body with a left femur and a bladder in air."""
    labels = np.zeros((32, 32, 32), np.uint8)
    labels[:, 8:24, 4:28] = Label.MUSCLE
    labels[:, 12:18, 20:26] = Label.LEFT_FEMUR
    labels[4:8, 12:18, 12:18] = Label.BLADDER
    return labels


def test_a_ct_of_a_label_map(a_folder, labels):
    model = maisi_files.load_maisi(a_folder)
    assert model.scale_factor == pytest.approx(SCALE) and model.unused == ()
    one = model.generate(labels, 1.5, seed=3, n_steps=2)
    assert one.shape == labels.shape and one.dtype == np.float32
    assert (one[labels == Label.AIR] == -1000).all()
    body = one[labels != Label.AIR]
    assert body.min() >= -1000 and body.max() <= 1000 and body.std() > 0
    np.testing.assert_array_equal(one, model.generate(labels, 1.5, seed=3, n_steps=2))
    for other in (
        model.generate(labels, 1.5, seed=4, n_steps=2),
        model.generate(labels, 3.0, seed=3, n_steps=2),
        model.generate(np.where(labels == Label.BLADDER, Label.MUSCLE, labels), 1.5, 3, 2),
    ):
        assert (one != other).any()


class Recorder(torch.nn.Module):
    """A network that keeps what it was asked and answers a constant."""

    in_channels = 4

    def __init__(self, answer):
        super().__init__()
        self.weight, self.answer, self.asked = torch.nn.Parameter(torch.zeros(1)), answer, []

    def forward(self, **asked):
        self.asked.append(asked)
        return self.answer(asked["x"])

    def decode_stage_2_outputs(self, latents):
        self.asked.append(latents)
        return (
            latents[:, :1].repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
        )


def recorded(labels, n_steps=4):
    """What the networks are asked, where the velocity is 1 everywhere."""
    autoencoder = Recorder(None)
    unet = Recorder(torch.ones_like)
    controlnet = Recorder(lambda x: (["down"], "middle"))
    scheduler = RFlowScheduler(**maisi_files.PUBLISHED["noise_scheduler"])
    model = maisi.Maisi(autoencoder, unet, controlnet, scheduler, SCALE)
    values = model.generate(labels, 1.5, seed=3, n_steps=n_steps)
    return autoencoder, unet, controlnet, values


def test_the_networks_are_asked_as_they_were_trained(labels):
    autoencoder, unet, controlnet, _ = recorded(labels)
    first, last = unet.asked[0], unet.asked[-1]
    assert first["spacing_tensor"].tolist() == [[150.0] * 3]
    assert first["class_labels"].tolist() == [1] == controlnet.asked[0]["class_labels"].tolist()
    assert first["down_block_additional_residuals"] == ["down"]
    assert first["mid_block_additional_residual"] == "middle"
    assert first["timesteps"].item() == 1000
    # Shifted to noise, as the published transform does for a small volume: by hand, 8^3 latents.
    ratio = (8**3 / 32**3) ** (1 / 3)
    wanted = [1000 * ratio * t / (1 + (ratio - 1) * t) for t in (1.0, 0.75, 0.5, 0.25)]
    times = [asked["timesteps"].item() for asked in unet.asked]
    np.testing.assert_allclose(times, wanted, rtol=1e-3)
    # A velocity of 1 over all of time adds 1, whatever the times: none was cut to a whole number.
    step = (times[-2] - times[-1]) / 1000
    np.testing.assert_allclose(last["x"] - unet.asked[-2]["x"], step, atol=1e-6)
    end = autoencoder.asked[0] * SCALE
    np.testing.assert_allclose(end - first["x"], 1.0, atol=1e-5)


def test_labels_reach_the_controlnet_by_their_bits_and_sides(labels):
    _, _, controlnet, _ = recorded(labels, n_steps=1)
    code = controlnet.asked[0]["controlnet_cond"]
    assert code.shape == (1, 8, 32, 32, 32)
    ids = sum(code[0, bit] * 2**bit for bit in range(8))
    # Right, front, up: the left femur at our i 20:26, j 12:18 lies at x 6:12, y 14:20.
    assert (ids[6:12, 14:20] == 93).all() and (ids == 93).sum() == 36 * 32
    assert (ids[14:20, 14:20, 4:8] == 15).all()
    assert set(ids.unique().tolist()) == {0, 15, 93, 200}
    np.testing.assert_array_equal((ids == 0).numpy(), maisi._to_ras(labels == Label.AIR))


def test_bits_lowest_first():
    code = maisi.binary_code(torch.tensor([[[[1, 95, 200]]]]))
    assert code[0, :, 0, 0].T.tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1, 0, 1, 0],
        [0, 0, 0, 1, 0, 0, 1, 1],
    ]


def test_the_ct_lies_as_its_labels(labels):
    """The decoder answers the latents: where noise was low, HU is low, in our axes again."""
    autoencoder, _, _, values = recorded(labels, n_steps=1)
    latents = autoencoder.asked[0][0, 0].numpy()
    x, y, z = 2, 4, 1  # -> i 20:24, j 12:16, k 4:8
    wanted = np.clip(latents[x, y, z], 0, 1) * 2000 - 1000
    np.testing.assert_allclose(values[4:8, 12:16, 20:24], wanted, atol=0.51)


def test_tissues_in_maisis_ids():
    labels = np.zeros((60, 24, 24), np.uint8)
    labels[:, 2:22, 2:22] = Label.FAT
    for n, label in enumerate((1, 2, 4, 5, 6, 7)):
        labels[0, 3, 3 + n] = label
    for n in range(3):  # bodies of vertebrae, joined by a thin facet
        labels[10 + 16 * n : 22 + 16 * n, 6:14, 6:18] = Label.VERTEBRAE
    labels[10:54, 14, 12] = Label.VERTEBRAE
    ids = maisi.maisi_ids(labels)
    assert ids[0, 3, 3:9].tolist() == [95, 96, 97, 93, 94, 97]
    assert ids[[11, 27, 43], 10, 12].tolist() == [33, 34, 35]
    assert set(ids[labels == Label.VERTEBRAE].tolist()) == {33, 34, 35}
    assert ids[59, 20, 20] == 200 and ids[0, 0, 0] == 0
    labels[0, 20, 20] = Label.IMPLANT
    with pytest.raises(ValueError, match="no implants"):
        maisi.maisi_ids(labels)


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "words"),
    [
        ((256, 256, 256), 1.5, None),
        ((128, 512, 512), 0.8, None),
        ((128, 128, 128), 2.5, "256, 384, 512 voxels"),
        ((256, 256, 384), 1.5, "alike"),
        ((200, 256, 256), 1.5, "along z"),
        ((256, 256, 256), 1.25, "field of view of 384 mm"),
        ((256, 256, 256), 3.5, "0.5 to 3 mm"),
    ],
)
def test_sizes_and_field_of_view(shape, spacing_mm, words):
    if words is None:
        maisi.check_maisi_grid(shape, spacing_mm)
        return
    with pytest.raises(ValueError, match=words):
        maisi.check_maisi_grid(shape, spacing_mm)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("never-made",)


def change_of(file, change):
    def apply(folder):
        document = torch.load(folder / file, weights_only=False)
        change(document)
        torch.save(document, folder / file)

    return apply


def config_of(change):
    text = json.dumps(TINY | change)
    return lambda folder: (folder / maisi_files.CONFIG_NAME).write_text(text)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / UNET).unlink(), "no diff_unet_3d_rflow-ct.pt"),
        (lambda folder: os.truncate(folder / UNET, 1000), "diff_unet_3d_rflow-ct.pt"),
        (change_of(UNET, lambda d: d.pop("scale_factor")), "no scale_factor"),
        (
            change_of(UNET, lambda d: d["unet_state_dict"].pop("spacing_layer.0.weight")),
            "first spacing_layer.0.weight",
        ),
        (
            change_of(CONTROLNET, lambda d: d["controlnet_state_dict"].clear()),
            "first conv_in.conv.weight",
        ),
        (change_of(AUTOENCODER, lambda d: d.update(evil=Evil())), "more than weights"),
        (
            lambda folder: (folder / maisi_files.CONFIG_NAME).write_text("{"),
            "config_network_rflow.json",
        ),
        (
            lambda folder: (folder / maisi_files.CONFIG_NAME).write_text(
                json.dumps(TINY | {"controlnet_def": {"_target_": "os.system"}})
            ),
            "controlnet_def is a system, not a ControlNetMaisi",
        ),
        (config_of({"controlnet_def": 3}), "it has no object controlnet_def"),
        (config_of({"noise_scheduler": {"scale": "@x"}}), "scale of noise_scheduler is @x, which"),
        (
            config_of({"noise_scheduler": {"num_train_timesteps": 1000, "depth": 3}}),
            "noise_scheduler of .* cannot be built: got an unexpected keyword argument 'depth'",
        ),
        (lambda folder: (folder / maisi_files.CONFIG_NAME).write_text("[]"), "it holds no object"),
        (change_of(UNET, lambda d: d.update(scale_factor="x")), "scale_factor of .* is no number"),
        (change_of(UNET, lambda d: d.update(scale_factor=torch.nan)), "is no number above 0"),
        (change_of(UNET, lambda d: d.update(scale_factor=torch.ones(2))), "is no number above 0"),
    ],
)
def test_files_that_cannot_be_used(a_folder, damage, words, monkeypatch):
    monkeypatch.chdir(a_folder)
    damage(a_folder)
    with pytest.raises(UnreadableFileError, match=words) as caught:
        maisi_files.load_maisi(a_folder)
    assert "\n" not in str(caught.value)
    assert not (a_folder / "never-made").exists()


def test_weights_without_a_place_are_told(a_folder):
    change_of(UNET, lambda d: d["unet_state_dict"].update(old=torch.zeros(1)))(a_folder)
    assert maisi_files.load_maisi(a_folder).unused == (f"{UNET}: old",)
