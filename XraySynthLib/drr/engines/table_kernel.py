"""A compiled look-up in a two-dimensional table."""

import numpy as np

from XraySynthLib.drr.engines.compiled import kernel


@kernel
def look_up_table(table, unit, x, y, image):
    """Interpolate `table` linearly in x and y; its nodes are at unit * n^2, n = 0, 1, 2, ...

    The nodes lie closest at 0, where beam hardening bends the function most.

    Args:
        table: (X, Y) float32.
        unit: Place of node 1.
        x: (rows, columns) float32, not negative.
        y: (rows, columns) float32, not negative.
        image: (rows, columns) float32, written to.
    """
    last_x, last_y = np.int32(table.shape[0] - 2), np.int32(table.shape[1] - 2)
    flat = table.reshape(-1)
    one, stride = np.uint32(1), np.uint32(table.shape[1])
    per_unit = np.float32(1) / unit
    for row in range(image.shape[0]):
        line_x, line_y, line = x[row], y[row], image[row]
        for column in range(image.shape[1]):
            u, v = line_x[column] * per_unit, line_y[column] * per_unit
            i, j = min(np.int32(np.sqrt(u)), last_x), min(np.int32(np.sqrt(v)), last_y)
            s = (u - np.float32(i * i)) / np.float32(2 * i + 1)
            t = (v - np.float32(j * j)) / np.float32(2 * j + 1)
            a = np.uint32(i) * stride + np.uint32(j)
            b = a + stride
            low = flat[a] + t * (flat[a + one] - flat[a])
            high = flat[b] + t * (flat[b + one] - flat[b])
            line[column] = low + s * (high - low)
