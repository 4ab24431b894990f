"""Compiled loops of the Joseph projector; `numba_joseph` says what they compute and why.

Inner loops run over slices of contiguous rows from 0 upward: that, and unsigned gather indices, is
what lets the compiler vectorise them.
"""

import numpy as np

from XraySynthLib.drr.engines.compiled import kernel


@kernel
def find_spans(voxels, spans):
    """First and one past the last non-zero voxel of every row; 0, 0 where there is none.

    Args:
        voxels: (R, B) float32.
        spans: (R, 2) int32, written to.
    """
    n_voxels = voxels.shape[1]
    for row in range(spans.shape[0]):
        line = voxels[row]
        low, high = 0, n_voxels
        while low < n_voxels and line[low] == 0:
            low += 1
        while high > low and line[high - 1] == 0:
            high -= 1
        spans[row, 0], spans[row, 1] = (low, high) if low < high else (0, 0)


@kernel
def _sample_positions(first, step, last, index, weight):
    """Whole part, at most `last`, and the rest of first + v * step, for every v."""
    for v in range(index.size):
        position = first + np.float32(v) * step
        whole = min(np.int32(position), last)
        index[v] = np.uint32(whole)
        weight[v] = position - np.float32(whole)


@kernel
def _resample_row(row, index, weight, resampled):
    """Interpolate one row of voxels linearly at the sample positions."""
    one = np.uint32(1)
    for v in range(index.size):
        left = row[index[v]]
        resampled[v] = left + weight[v] * (row[index[v] + one] - left)


@kernel
def _add_between(sums, row_a, row_b, weight):
    """Add the linear interpolation between two resampled rows."""
    for v in range(sums.size):
        sums[v] += row_a[v] + weight * (row_b[v] - row_a[v])


@kernel
def _add_scaled(sums, row, weight):
    """Add one resampled row, its neighbour being air."""
    for v in range(sums.size):
        sums[v] += weight * row[v]


@kernel
def sum_slices(voxels, spans, slices_first, source, sign, grid, band, sums):
    """Sum the slices of a volume, each magnified from the source onto a band of a slope grid.

    Args:
        voxels: (M, N, A, B) float32 with slices_first, else (M, A, N, B); N counts slices along
            the main axis. A border of one zero voxel surrounds the volume.
        spans: (M, N, A, 2) or (M, A, N, 2) int32: first and one past the last non-zero voxel of
            each row.
        slices_first: Which of the two layouts it is.
        source: (3,) position of the X-ray source along main axis, A and B, in voxels.
        sign: +1 where the rays run up the main axis, else -1.
        grid: (4,) first slope and slope step along A, then along B; steps are positive.
        band: First and one past the last row of the grid to be made.
        sums: (M, U, V) float32, added to: sum over slices of the interpolated voxels.
    """
    # In every slice the grid's rows are walked upward. `row_a` and `row_b` hold the two rows of
    # voxels around the current one, already resampled to the grid's columns; both move up by one
    # where the walk passes a row of voxels. start..stop is where a row is not air; outside of it
    # the buffers may hold what an earlier row left, so the two are evened out with zeros.
    n_materials, _, n_v = sums.shape
    n_slices = voxels.shape[1] if slices_first else voxels.shape[2]
    n_a = voxels.shape[2] if slices_first else voxels.shape[1]
    n_b = voxels.shape[3]
    index = np.empty(n_v, np.uint32)
    weight = np.empty(n_v, np.float32)
    rows = np.zeros((2, n_v), np.float32)
    for n in range(n_slices):
        distance = (n - source[0]) * sign
        if distance <= 0:
            continue
        # Position of grid row u in this slice: a_first + u * a_step; of column v likewise.
        a_step = distance * grid[1]
        a_first = source[1] + distance * grid[0]
        b_step = distance * grid[3]
        b_first = source[2] + distance * grid[2]
        u_low = max(band[0], int(np.ceil(-a_first / a_step)))
        u_high = min(band[1], int(np.ceil((n_a - 1 - a_first) / a_step)))
        if u_low >= u_high:
            continue
        low, high = n_b, 0
        for m in range(n_materials):
            a_last = min(n_a - 1, int(a_first + (u_high - 1) * a_step) + 1)
            for a in range(int(a_first + u_low * a_step), a_last + 1):
                span = spans[m, n, a] if slices_first else spans[m, a, n]
                if span[1] > span[0]:
                    low, high = min(low, span[0]), max(high, span[1])
        v_low = max(0, int(np.ceil((low - 1 - b_first) / b_step)))
        v_high = min(n_v, int(np.ceil((high - b_first) / b_step)))
        if high <= low or v_low >= v_high:
            continue
        _sample_positions(
            np.float32(b_first + v_low * b_step),
            np.float32(b_step),
            np.int32(n_b - 2),
            index[v_low:v_high],
            weight[v_low:v_high],
        )
        for m in range(n_materials):
            row_a, row_b = rows[0], rows[1]
            start_a = start_b = start = n_v
            stop_a = stop_b = stop = 0
            current = -2
            for u in range(u_low, u_high):
                position = a_first + u * a_step
                a = min(int(position), n_a - 2)
                if a != current:
                    # Rows are resampled once and shared by all grid rows between them.
                    for which in range(2):
                        if which == 0 and a == current + 1:
                            row_a, row_b = row_b, row_a
                            start_a, stop_a = start_b, stop_b
                            continue
                        if slices_first:
                            voxel_row, span = voxels[m, n, a + which], spans[m, n, a + which]
                        else:
                            voxel_row, span = voxels[m, a + which, n], spans[m, a + which, n]
                        start, stop = n_v, 0
                        if span[1] > span[0]:
                            start = max(v_low, int((span[0] - 1 - b_first) / b_step))
                            stop = min(v_high, int((span[1] - b_first) / b_step) + 1)
                        if start < stop:
                            _resample_row(
                                voxel_row,
                                index[start:stop],
                                weight[start:stop],
                                (row_a if which == 0 else row_b)[start:stop],
                            )
                        else:  # the row is air, or lies beyond the grid
                            start, stop = n_v, 0
                        if which == 0:
                            start_a, stop_a = start, stop
                        else:
                            start_b, stop_b = start, stop
                    current = a
                    start, stop = min(start_a, start_b), max(stop_a, stop_b)
                    if start_a < stop_a and start_b < stop_b:
                        row_a[start:start_a] = 0
                        row_a[stop_a:stop] = 0
                        row_b[start:start_b] = 0
                        row_b[stop_b:stop] = 0
                fraction = np.float32(position - a)
                if start_a < stop_a and start_b < stop_b:
                    target = sums[m, u, start:stop]
                    _add_between(target, row_a[start:stop], row_b[start:stop], fraction)
                elif start_a < stop_a:
                    target = sums[m, u, start:stop]
                    _add_scaled(target, row_a[start:stop], np.float32(1) - fraction)
                elif start_b < stop_b:
                    target = sums[m, u, start:stop]
                    _add_scaled(target, row_b[start:stop], fraction)


@kernel
def _grid_positions(corner, per_column, lengths, sign, grid, shape, index, along_a, along_b, scale):
    """Where one detector row falls on the slope grid; scale 0 marks pixels of another piece."""
    for column in range(index.size):
        d_main = sign * (corner[0] + column * per_column[0])
        d_a = corner[1] + column * per_column[1]
        d_b = corner[2] + column * per_column[2]
        inside = d_main >= max(abs(d_a), abs(d_b))
        inverse = 1.0 / (d_main if inside else 1.0)
        slope_a, slope_b = d_a * inverse, d_b * inverse
        u, v = (slope_a - grid[0]) * grid[1], (slope_b - grid[2]) * grid[3]
        inside = inside and u >= 1 and v >= 1 and u < shape[0] - 2 and v < shape[1] - 2
        u, v = u if inside else 1.0, v if inside else 1.0
        whole_u, whole_v = np.int32(u), np.int32(v)
        index[column] = np.uint32((whole_u - 1) * shape[1] + whole_v - 1)
        along_a[column] = np.float32(u - whole_u)
        along_b[column] = np.float32(v - whole_v)
        squared = lengths[0] + slope_a * slope_a * lengths[1] + slope_b * slope_b * lengths[2]
        scale[column] = np.float32(np.sqrt(squared)) if inside else np.float32(0)


@kernel
def _interpolate_row(sums, stride, index, along_a, along_b, scale, values):
    """Cubic convolution with a = -1/2 (Keys 1981, eq. 4) over 4 x 4 grid points."""
    one, two, three = np.uint32(1), np.uint32(2), np.uint32(3)
    half, three_halves = np.float32(0.5), np.float32(1.5)
    for column in range(index.size):
        s, t = along_a[column], along_b[column]
        t0 = ((-half * t + one) * t - half) * t
        t1 = (three_halves * t - np.float32(2.5)) * t * t + one
        t2 = ((-three_halves * t + two) * t + half) * t
        t3 = (half * t - half) * t * t
        s0 = ((-half * s + one) * s - half) * s
        s1 = (three_halves * s - np.float32(2.5)) * s * s + one
        s2 = ((-three_halves * s + two) * s + half) * s
        s3 = (half * s - half) * s * s
        a = index[column]
        b, c, d = a + stride, a + two * stride, a + three * stride
        value = (
            s0 * (t0 * sums[a] + t1 * sums[a + one] + t2 * sums[a + two] + t3 * sums[a + three])
            + s1 * (t0 * sums[b] + t1 * sums[b + one] + t2 * sums[b + two] + t3 * sums[b + three])
            + s2 * (t0 * sums[c] + t1 * sums[c + one] + t2 * sums[c + two] + t3 * sums[c + three])
            + s3 * (t0 * sums[d] + t1 * sums[d + one] + t2 * sums[d + two] + t3 * sums[d + three])
        )
        if scale[column] > 0:
            values[column] = max(np.float32(0), value) * scale[column]


@kernel
def look_up(sums, directions, lengths, sign, grid, band, image):
    """Interpolate a slope grid at the detector's pixels and scale to ray length.

    Where two axes are equally steep both write the pixel, the later over the earlier.

    Args:
        sums: (M, U, V) the grid of `sum_slices`.
        directions: (3, 3) direction of pixel (0, 0), its change from column to column and from
            row to row; columns main axis, A and B; voxels.
        lengths: (3,) voxel size along main axis, A and B, in the unit of the result's length.
        sign: +1 where the rays run up the main axis, else -1.
        grid: (4,) as in `sum_slices`.
        band: First and one past the last detector row to be made.
        image: (M, rows, columns) float32, written to where this main axis is the ray's.
    """
    n_materials, _, n_columns = image.shape
    index = np.empty(n_columns, np.uint32)
    along_a, along_b = np.empty(n_columns, np.float32), np.empty(n_columns, np.float32)
    scale = np.empty(n_columns, np.float32)
    inverse_grid = np.array([grid[0], 1.0 / grid[1], grid[2], 1.0 / grid[3]])
    for row in range(band[0], band[1]):
        _grid_positions(
            directions[0] + row * directions[2],
            directions[1],
            lengths * lengths,
            sign,
            inverse_grid,
            sums.shape[1:],
            index,
            along_a,
            along_b,
            scale,
        )
        for m in range(n_materials):
            flat = sums[m].reshape(-1)
            stride = np.uint32(sums.shape[2])
            _interpolate_row(flat, stride, index, along_a, along_b, scale, image[m, row])
