"""What the Slicer modules share; makes XraySynthLib importable from a checkout.

    nodes         the library's types from and to MRML nodes
    carm          the C-arm's node, its model, its beam and the image on its detector
    drr, ct       the logic of the modules C-arm DRR and CT Generator
    landmarks     the logic of the module Landmark Detector
    dataset       the logic of the module Training Set
    sampler       the logic of the module X-ray Sampler
    jobs          verbs of the command line as child processes
    dependencies  what is not installed yet
    panel         a button, a progress bar and a job (alone in using qt)

Nothing here but `panel` uses qt, and nothing the application: the scene is always an argument.
"""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("XraySynthLib") is None:  # not installed beside the modules
    sys.path.append(str(Path(__file__).resolve().parents[2]))
