"""Sets of samples: what they are, how they are split, how their files are laid out.

`open_set` opens a set of any layout. Making images is not done here: `workflows.export` does it.
"""

from XraySynthLib.data.sets.description import SET_NAME, SetDescription, SetSubject
from XraySynthLib.data.sets.layouts import LAYOUTS, Layout, layout_module, open_set
from XraySynthLib.data.sets.parts import Part
from XraySynthLib.data.sets.samples import LazySamples
from XraySynthLib.data.sets.splits import (
    DERIVED_FROM,
    SPLITS,
    SplitOverlapError,
    people_behind,
    persons_of,
    refuse_split_overlap,
    split_by_subject,
)

__all__ = [
    "DERIVED_FROM",
    "LAYOUTS",
    "SET_NAME",
    "SPLITS",
    "Layout",
    "LazySamples",
    "Part",
    "SetDescription",
    "SetSubject",
    "SplitOverlapError",
    "layout_module",
    "open_set",
    "people_behind",
    "persons_of",
    "refuse_split_overlap",
    "split_by_subject",
]
