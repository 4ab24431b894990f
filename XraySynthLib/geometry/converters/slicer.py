"""Slicer's transform files (.h5, .tfm): the C-arm's node on disk.

Slicer shows a node's matrix to parent, here `ras_from_carm`; its file holds ITK's transform, which
maps the other way (resampling: parent to local) and in LPS. So the file holds
LPS_FROM_RAS @ inverse(ras_from_carm) @ RAS_FROM_LPS, as an AffineTransform_double_3_3.
Slicer writes the node's centre of transformation into FixedParameters, so a centre counts.
Checked in both directions against vtkMRMLTransformStorageNode of slicer-core 5.13.
"""

import os
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from XraySynthLib.errors import UnreadableFileError
from XraySynthLib.geometry.carm import CArmPose
from XraySynthLib.geometry.transforms import (
    LPS_FROM_RAS,
    RAS_FROM_LPS,
    checked_rigid,
    inverse_rigid,
    read_only,
)
from XraySynthLib.quiet import quiet_exit, quiet_stderr

SUFFIXES = (".h5", ".tfm", ".txt")


def read_ras_from_carm(path: str | Path) -> NDArray:
    """Read a C-arm's transform to world from a file that Slicer saved.

    Any linear transform will do, also one with a centre of rotation and a chain of linear ones.

    Args:
        path: The file.

    Returns:
        (4, 4) rigid, RAS mm, for `CArmPose.from_matrix`.

    Raises:
        UnreadableFileError: If the file is missing or damaged, or its transform is not 3D, not
            linear or not rigid.
    """
    path = Path(path)
    if not path.is_file():
        raise UnreadableFileError(f"There is no transform file {path}.")
    try:
        with quiet_stderr():
            transform = SimpleITK.ReadTransform(str(path))
    except (RuntimeError, UnicodeError) as error:  # its message may quote the damaged bytes
        quiet_exit()
        raise UnreadableFileError(
            f"{path} is damaged or not a transform file; save the C-arm's transform from Slicer "
            "as .h5 or .tfm."
        ) from error
    if transform.GetDimension() != 3 or not transform.IsLinear():
        raise UnreadableFileError(
            f"{path} holds a {transform.GetDimension()}D {transform.GetName()}, but a C-arm's pose "
            "must be a linear 3D transform."
        )
    try:
        carm_from_ras = RAS_FROM_LPS @ _matrix(transform) @ LPS_FROM_RAS
        return read_only(inverse_rigid(checked_rigid(carm_from_ras, "its matrix")))
    except ValueError as error:
        raise UnreadableFileError(f"{path} is not a C-arm's pose: {error}") from error


def write_ras_from_carm(pose: CArmPose, path: str | Path) -> None:
    """Write a C-arm's transform to world as a file that Slicer opens, whole or not at all.

    Args:
        pose: The pose; its `source_to_isocenter_mm` has no place in the file.
        path: The file, .h5, .tfm or .txt, in a folder that exists.

    Raises:
        ValueError: If the suffix is another.
        FileNotFoundError: If there is no such folder.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"A transform file must end in {', '.join(SUFFIXES)}, got {path.name!r}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}.")
    carm_from_ras_lps = LPS_FROM_RAS @ inverse_rigid(pose.ras_from_carm) @ RAS_FROM_LPS
    transform = SimpleITK.AffineTransform(3)
    transform.SetMatrix(carm_from_ras_lps[:3, :3].ravel().tolist())
    transform.SetTranslation(carm_from_ras_lps[:3, 3].tolist())
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix.lower()}")
    try:
        SimpleITK.WriteTransform(transform, str(partial))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _matrix(transform: SimpleITK.Transform) -> NDArray:
    """4x4 matrix of a linear 3D transform, whatever its parameters: where it takes points."""
    reach_mm = 1000.0
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis in range(3):
        tip = transform.TransformPoint(tuple(reach_mm * np.eye(3)[axis]))
        matrix[:3, axis] = (np.array(tip) - matrix[:3, 3]) / reach_mm
    return matrix
