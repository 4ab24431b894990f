"""The project's nouns that hold data, and the files they come from and go to.

Types live here one a module; readers and writers in `data.formats`. No projecting, no learning.
"""

from XraySynthLib.data.landmarks import ImageLandmarkSet, LandmarkSet
from XraySynthLib.data.sample import Provenance, Sample
from XraySynthLib.data.volume import Volume, left_back_up
from XraySynthLib.data.xray import Quantity, Xray

__all__ = [
    "ImageLandmarkSet",
    "LandmarkSet",
    "Provenance",
    "Quantity",
    "Sample",
    "Volume",
    "Xray",
    "left_back_up",
]
