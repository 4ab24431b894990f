"""Which voxels lie inside a surface, with VTK."""

import numpy as np
from numpy.typing import NDArray
from vtkmodules.util.numpy_support import (
    numpy_to_vtk,
    numpy_to_vtkIdTypeArray,
    vtk_to_numpy,
)
from vtkmodules.vtkCommonCore import vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
from vtkmodules.vtkImagingStencil import vtkImageStencilToImage, vtkPolyDataToImageStencil

from XraySynthLib.geometry.transforms import transform_points


def polydata(vertices_mm: NDArray, triangles: NDArray) -> vtkPolyData:
    """Wrap a surface for VTK; VTK owns a copy."""
    points = vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(vertices_mm, dtype=np.float64), deep=1))
    cells = vtkCellArray()
    flat = np.ascontiguousarray(triangles, dtype=np.int64).ravel()
    cells.SetData(3, numpy_to_vtkIdTypeArray(flat, deep=1))
    surface = vtkPolyData()
    surface.SetPoints(points)
    surface.SetPolys(cells)
    return surface


def inside_surface(
    vertices_mm: NDArray, triangles: NDArray, ijk_from_ras: NDArray, shape: tuple[int, int, int]
) -> NDArray:
    """Say which voxel centres lie inside a closed surface.

    Args:
        vertices_mm: (N, 3) RAS, mm.
        triangles: (T, 3) of a watertight surface.
        ijk_from_ras: (4, 4) of the grid.
        shape: (K, J, I) of the grid.

    Returns:
        (K, J, I) bool.
    """
    stencil = vtkPolyDataToImageStencil()
    stencil.SetInputData(polydata(transform_points(ijk_from_ras, vertices_mm), triangles))
    stencil.SetOutputSpacing(1, 1, 1)
    stencil.SetOutputOrigin(0, 0, 0)
    stencil.SetOutputWholeExtent(0, shape[2] - 1, 0, shape[1] - 1, 0, shape[0] - 1)
    stencil.SetTolerance(0)
    image = vtkImageStencilToImage()
    image.SetInputConnection(stencil.GetOutputPort())
    image.SetInsideValue(1)
    image.SetOutsideValue(0)
    image.SetOutputScalarTypeToUnsignedChar()
    image.Update()
    scalars = vtk_to_numpy(image.GetOutput().GetPointData().GetScalars())
    return scalars.reshape(shape).astype(bool)
