"""Files: what the project's types are read from and written to.

One module a kind of file. Every reader raises `UnreadableFileError`, one sentence that names the
file; every writer makes its file whole or not at all.
"""

from XraySynthLib.data.formats.atomic import atomic_path
from XraySynthLib.data.formats.landmark_files import read_landmarks, write_landmarks
from XraySynthLib.data.formats.prediction_files import (
    Prediction,
    read_prediction,
    write_prediction,
)
from XraySynthLib.data.formats.sample_files import (
    MAX_MASKS,
    image_landmarks_from_dicts,
    image_landmarks_to_dicts,
    read_sample,
    write_sample,
)
from XraySynthLib.data.formats.volume_files import (
    check_subject_files,
    read_labels,
    read_volume,
    write_labels,
    write_volume,
)
from XraySynthLib.data.formats.xray_dicom_write import write_xray_dicom
from XraySynthLib.data.formats.xray_files import read_xray, read_xrays, write_xray

__all__ = [
    "MAX_MASKS",
    "Prediction",
    "atomic_path",
    "check_subject_files",
    "image_landmarks_from_dicts",
    "image_landmarks_to_dicts",
    "read_labels",
    "read_landmarks",
    "read_prediction",
    "read_sample",
    "read_volume",
    "read_xray",
    "read_xrays",
    "write_labels",
    "write_landmarks",
    "write_prediction",
    "write_sample",
    "write_volume",
    "write_xray",
    "write_xray_dicom",
]
