"""Synthetic X-ray training data for image-guided surgery, under the 3D Slicer extension XraySynth.

Lives here: the version. Everything else is in the sub-packages, one noun each; nothing heavy is
imported until it is used.
"""

__version__ = "0.1.0"
