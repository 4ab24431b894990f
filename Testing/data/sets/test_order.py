"""Samples come in the order of the run, whatever the layout."""

import pytest

from XraySynthLib.data.sets import LAYOUTS, open_set


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_order_of_the_run(layout, write_set):
    folder, samples = write_set(layout, subjects=("zoe", "adam", "mia"))
    keys = [sample.key for sample in samples]
    assert [sample.key for sample in open_set(folder)] == keys
    assert [sample.key for sample in open_set(folder, "train")] == [*keys[:3], *keys[6:]]
