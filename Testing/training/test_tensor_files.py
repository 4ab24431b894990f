"""Weights in half the bytes, unless they do not fit."""

import torch

from XraySynthLib.training.tensor_files import halved


def test_what_sixteen_bits_cannot_hold_keeps_its_bits():
    assert halved(torch.tensor([1.0, -65504.0])).dtype == torch.float16
    large = torch.tensor([1.0, 7e4])
    assert halved(large).dtype == torch.float32 and torch.equal(halved(large), large)
    counts = torch.tensor([3, 100_000])
    assert torch.equal(halved(counts), counts)
