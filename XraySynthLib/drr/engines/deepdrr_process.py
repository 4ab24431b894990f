"""DeepDRR as an engine: a child process in an environment of its own, measured before it is used.

It has NOT been run with DeepDRR on a GPU. Its tests talk to a stand-in written from a reading of
DeepDRR 1.2.2. Once, by hand, it ran with DeepDRR's own Python and its CUDA kernel compiled for a
CPU, cupy and the textures imitated: the shift was 1.00 voxel on each axis, and the area density of
one oblique view agreed with an exact trilinear sum to 3e-4 of its peak.

DeepDRR turns mass into keV for each photon; the contract wants the mass. So each material is drawn
by itself, as one and the same substance, at one energy: there I = I0 exp(-mu A), and the area
density is A = ln(I0 / I) / mu whatever the material. Where DeepDRR draws a voxel, I0 and mu are
measured at the start by a self-test (`calibrate`), not assumed.

The child holds one volume at a time and lives as long as this process; `deepdrr_worker` is its
end of the pipe, `deepdrr_environment` finds and installs its Python.
"""

import contextlib
import itertools
import json
import queue
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.drr.attenuation import mass_attenuation
from XraySynthLib.drr.engines.deepdrr_environment import clean_environment, find_python
from XraySynthLib.drr.materials import Materials
from XraySynthLib.errors import EngineError
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm
from XraySynthLib.geometry.transforms import transform_points, translation

WORKER = Path(__file__).with_name("deepdrr_worker.py")
TIMEOUT_S = 600.0
"""For any one answer. The first takes longest: nvcc compiles DeepDRR's kernels."""
LOADS_PER_CHILD = 32
"""DeepDRR gives each volume an OpenGL context and never gives it back, so a child is replaced."""
MARGIN_VOXELS = 3
"""Air around a volume: DeepDRR repeats the outermost voxels and cuts what it draws beyond them."""
STEPS_PER_VOXEL = 4

MAX_SHIFT_VOXELS = 2.0
MAX_ERROR_PX = 0.1
MAX_MASS_ERROR = 0.02


class DeepDrrProcess:
    """Materials made ready for projection by DeepDRR.

    Raises:
        EngineError: If DeepDRR is not installed, cannot run here, or fails its self-test.
        ValueError: If the volume holds nothing but air.
    """

    def __init__(self, materials: Materials) -> None:
        # The engine must not keep `materials` itself alive: it is cached for as long as they live.
        cropped = materials.cropped()
        self._density, self._ras_from_ijk = cropped.density_g_per_cm3, cropped.ras_from_ijk
        self._key = object()
        with _connection.lock:
            _connection.child()

    def project(self, view: View) -> NDArray:
        """Integrate each material along the rays of a view.

        Args:
            view: The view.

        Returns:
            (M, rows, columns) float32 area density, g/cm2.

        Raises:
            EngineError: If the child dies, gives no answer in time or reports an error.
        """
        with _connection.lock:
            child, calibration = _connection.child(self._key)
            if child.loaded is not self._key:
                child.load(self._density, self._ras_from_ijk, calibration.shift_ijk)
                child.loaded = self._key
            energy_kev = child.project(view)
        return calibration.area_density(energy_kev)


@dataclass(frozen=True)
class Calibration:
    """What the self-test measured.

    Attributes:
        shift_ijk: (3,) by how many voxels DeepDRR draws a volume away from its place.
        open_beam_kev: An image's value where the beam meets nothing.
        mass_attenuation_cm2_per_g: Of the substance that all materials are drawn as.
    """

    shift_ijk: NDArray
    open_beam_kev: float
    mass_attenuation_cm2_per_g: float

    def area_density(self, energy_kev: NDArray) -> NDArray:
        """Area density, g/cm2, float32, from an image of keV for each photon.

        Raises:
            EngineError: If no photon comes through: the image then holds no mass to read.
        """
        if not (energy_kev > 0).all():
            raise EngineError(
                "The deepdrr engine cannot measure a ray so dense that no energy comes through."
            )
        attenuation = np.log(self.open_beam_kev / energy_kev.astype(np.float64))
        return np.maximum(attenuation / self.mass_attenuation_cm2_per_g, 0).astype(np.float32)


class Child:
    """DeepDRR's process and the pipe to it; any failure ends it with one `EngineError`."""

    def __init__(self, python: Path, worker: Path = WORKER) -> None:
        self.loaded: object = None
        self.n_loads = 0
        self._folder = Path(tempfile.mkdtemp(prefix="xraysynth-deepdrr-"))
        self._names = itertools.count()
        try:
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    [str(python), "-I", str(worker)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    cwd=self._folder,
                    # Without a display OpenGL must go through EGL, which PyOpenGL has to be told.
                    env={**clean_environment(), "PYOPENGL_PLATFORM": "egl"},
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                )
        except OSError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise EngineError(f"DeepDRR's Python does not start: {error}.") from error
        self._replies: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(
            target=_read_lines, args=(self._process.stdout, self._replies), daemon=True
        ).start()
        # Also called when this object is forgotten and when Python exits.
        self.close = weakref.finalize(self, _end, self._process, self._folder)
        self.version = self._answer("ready")

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.close.alive and self._process.poll() is None

    def load(self, density_g_per_cm3: NDArray, ras_from_ijk: NDArray, shift_ijk: NDArray) -> None:
        """Replace the volume that the child holds.

        Args:
            density_g_per_cm3: (M, K, J, I).
            ras_from_ijk: (4, 4) the grid's place.
            shift_ijk: (3,) how far DeepDRR draws it away from there, voxels; undone.
        """
        spacing_mm = np.linalg.norm(ras_from_ijk[:3, :3], axis=0)
        path = self._new_path()
        inside = (slice(None), *[slice(MARGIN_VOXELS, -MARGIN_VOXELS)] * 3)
        n_materials, *shape = density_g_per_cm3.shape
        padded = np.lib.format.open_memmap(
            path,
            mode="w+",
            dtype=np.float32,
            shape=(n_materials, *[n + 2 * MARGIN_VOXELS for n in shape]),
        )
        padded[inside] = density_g_per_cm3
        del padded  # flushes it
        self.loaded = None
        self.n_loads += 1
        self._ask(
            load={
                "density": str(path),
                "world_from_ijk": (
                    ras_from_ijk @ translation(-np.asarray(shift_ijk) - MARGIN_VOXELS)
                ).tolist(),
                # DeepDRR adds steps up in float32: a power of two adds without rounding.
                "step_mm": 2.0 ** np.floor(np.log2(spacing_mm.min() / STEPS_PER_VOXEL)),
            }
        )
        path.unlink()

    def project(self, view: View) -> NDArray:
        """(M, rows, columns) float32 keV for each photon sent, each material by itself.

        DeepDRR knows no mirrored detector: its columns run along +x, so images of mirrored views
        are made with their columns reversed and turned back.
        """
        seen = view.columns_reversed() if view.intrinsics.mirrored else view
        index_from_camera = seen.intrinsics.px_from_camera.copy()
        index_from_camera[:2, 2] += 0.5  # its index counts from the first pixel's corner
        path = self._new_path()
        self._ask(
            project={
                "index_from_camera2d": index_from_camera.tolist(),
                "camera3d_from_world": seen.camera_from_ras.tolist(),
                "shape_px": list(seen.intrinsics.shape_px),
                "output": str(path),
            }
        )
        try:
            energy_kev = np.load(path)
            path.unlink()
        except (OSError, ValueError) as error:
            raise self._failure(f"left no image ({error})") from error
        if energy_kev.shape[1:] != seen.intrinsics.shape_px or not np.isfinite(energy_kev).all():
            raise self._failure("made an image of the wrong shape or with values not finite")
        return energy_kev[..., ::-1] if view.intrinsics.mirrored else energy_kev

    @property
    def _log(self) -> Path:
        return self._folder / "stderr.txt"

    def _new_path(self) -> Path:
        return self._folder / f"{next(self._names)}.npy"

    def _ask(self, **request: Any) -> None:
        with contextlib.suppress(OSError):  # it is gone: there will be no answer
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        self._answer("done")

    def _answer(self, field: str) -> Any:
        try:
            line = self._replies.get(timeout=TIMEOUT_S)
        except queue.Empty:
            raise self._failure(f"gave no answer within {TIMEOUT_S:g} s") from None
        except BaseException:  # Ctrl-C: the answer, still to come, would be taken for the next one
            self.close()
            raise
        if line is None:
            code = self._process.wait()  # its output has ended, so it is ending
            raise self._failure(f"ended unexpectedly with exit code {code}")
        try:
            reply = json.loads(line)
        except ValueError:
            reply = None
        if isinstance(reply, dict) and "error" in reply:
            self.close()
            raise EngineError(f"DeepDRR failed: {str(reply['error']).rstrip('.')}.")
        if not isinstance(reply, dict) or field not in reply:
            raise self._failure(f"gave an answer that makes no sense, {line.strip()[:60]!r}")
        return reply[field]

    def _failure(self, what: str) -> EngineError:
        """End the child; say in one sentence what happened and what it said last."""
        said = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        last = next((line.strip() for line in reversed(said) if line.strip()), "nothing")
        self.close()
        return EngineError(f"DeepDRR's process {what}; the last it said was: {last[:200]}")


def _read_lines(pipe: IO[str], replies: "queue.SimpleQueue[str | None]") -> None:
    """Pass lines on until the pipe ends; must not know the `Child`, which may be forgotten."""
    with pipe:
        for line in pipe:
            replies.put(line)
    replies.put(None)


def _end(process: subprocess.Popen, folder: Path) -> None:
    process.kill()
    process.wait()  # no zombie
    with contextlib.suppress(OSError):  # something may be left in its buffer
        process.stdin.close()
    shutil.rmtree(folder, ignore_errors=True)


def calibrate(child: Child) -> Calibration:
    """Let DeepDRR draw a ball and a block whose places and masses are known.

    The ball is drawn as DeepDRR would, from three sides; the shift in space that explains where
    its images lie is undone, and it is drawn again. Then the block tells the attenuation and the
    ball's mass confirms it.

    Raises:
        EngineError: If the images cannot be explained, or what is left of the error is too large.
    """
    scene = _TestScene()
    child.load(scene.density, scene.ras_from_ijk, np.zeros(3))
    found_px = [scene.centroid_px(child.project(view)[0], view) for view in scene.views]
    shift_ijk = _explain(scene, np.array(found_px))
    child.load(scene.density, scene.ras_from_ijk, shift_ijk)
    images = [child.project(view) for view in scene.views]
    for (ball, _), view in zip(images, scene.views, strict=True):
        error_px = np.linalg.norm(scene.centroid_px(ball, view) - scene.ball_px(view))
        if not error_px <= MAX_ERROR_PX:
            raise EngineError(
                f"DeepDRR failed its self-test: a ball is drawn {error_px:.2f} px from its place, "
                f"and undoing a shift of {np.round(shift_ijk, 2)} voxels leaves that error."
            )
    open_beam_kev = max(float(image.max()) for image in images)
    attenuations = [
        np.log(open_beam_kev / image[1][scene.block_pixel(view)]) / scene.block_g_per_cm2(view)
        for image, view in zip(images, scene.views, strict=True)
    ]
    calibration = Calibration(shift_ijk, open_beam_kev, float(np.median(attenuations)))
    _check_masses(scene, images, attenuations, calibration)
    return calibration


def _explain(scene: "_TestScene", found_px: NDArray) -> NDArray:
    """(3,) the shift, voxels, that moves the ball's images to (views, 2) `found_px`."""
    columns = [
        np.concatenate([scene.ball_px(v, step) - scene.ball_px(v) for v in scene.views])
        for step in np.eye(3)
    ]
    residual = found_px.ravel() - np.concatenate([scene.ball_px(v) for v in scene.views])
    shift_ijk, *_ = np.linalg.lstsq(np.array(columns).T, residual, rcond=None)
    if not (np.abs(shift_ijk) <= MAX_SHIFT_VOXELS).all():
        raise EngineError(
            "DeepDRR failed its self-test: it draws a ball at columns and rows "
            f"{np.round(found_px, 1).tolist()}, and no small shift of the volume explains that."
        )
    return shift_ijk


def _check_masses(
    scene: "_TestScene",
    images: Sequence[NDArray],
    attenuations: Sequence[float],
    calibration: Calibration,
) -> None:
    expected = mass_attenuation("soft tissue", np.array([100.0]))[0]  # what the worker asks for
    errors = {"attenuation of a block": np.array(attenuations) / expected - 1}
    masses_g = [
        scene.mass_g(calibration.area_density(image[0]), view)
        for image, view in zip(images, scene.views, strict=True)
    ]
    errors["mass of a ball"] = np.array(masses_g) / scene.ball_g - 1
    for what, error in errors.items():
        worst = error[np.abs(error).argmax()]
        if not abs(worst) <= MAX_MASS_ERROR:
            raise EngineError(f"DeepDRR failed its self-test: the {what} is off by {worst:+.1%}.")


class _TestScene:
    """A ball and a block on an oblique grid, and three views: mirrored or not, none centred.

    The ball stands off every middle, so that a mirrored axis cannot pass for a small shift.
    """

    BALL_IJK = np.array([25.0, 13.0, 27.0])
    BLOCK_IJK = np.array([19.5, 17.5, 21.5])
    BLOCK_VOXELS = 16
    SHAPE_IJK = (40, 36, 44)
    SPACING_MM = (1.25, 1.5, 1.0)

    def __init__(self) -> None:
        tilted = CArmPose(11.0, -8.0, 6.0, (7.0, -4.0, 5.0)).ras_from_carm
        scaled = np.diag([*self.SPACING_MM, 1.0])
        middle = (np.array(self.SHAPE_IJK) - 1) / 2
        self.ras_from_ijk = tilted @ scaled @ translation(-middle)
        ijk = np.stack(np.meshgrid(*map(np.arange, self.SHAPE_IJK), indexing="ij"), axis=-1)
        ball = np.exp(-0.5 * ((ijk - self.BALL_IJK) ** 2).sum(axis=-1) / 1.5**2)
        self.density = np.stack([ball, self._block(ijk)]).transpose(0, 3, 2, 1).astype(np.float32)
        self.ball_g = float(ball.sum() * np.prod(self.SPACING_MM) / 1e3)
        detector = {"shape_px": (220, 260), "pixel_spacing_mm": (0.5, 0.6)}
        self.views = [
            view_from_carm(
                CArmPose(*angles, source_to_isocenter_mm=600.0),
                Intrinsics(**detector, principal_point_px=point, mirrored=mirrored),
            )
            for angles, point, mirrored in (
                ((0, 0, 0), (120.0, 118.0), True),
                ((90, 0, 0), (141.5, 104.0), False),
                ((35, 25, 10), (127.0, 111.5), True),
            )
        ]

    def ball_px(self, view: View, shift_ijk: NDArray | float = 0.0) -> NDArray:
        """(2,) where the ball's middle belongs."""
        return view.project(self._ras(self.BALL_IJK + shift_ijk))[0]

    def centroid_px(self, energy_kev: NDArray, view: View) -> NDArray:
        """(2,) column and row of an image's middle of mass; NaN where it shows nothing."""
        attenuation = np.log(energy_kev.max() / np.maximum(energy_kev, 1e-30))
        row, column = np.indices(energy_kev.shape)
        total = attenuation.sum()
        if total <= 0:
            return np.full(2, np.nan)
        return np.array([(attenuation * column).sum(), (attenuation * row).sum()]) / total

    def mass_g(self, area_density: NDArray, view: View) -> float:
        """The mass of a small body at the ball's place, from its image.

        The image is larger than the body by the magnification, and each ray through it is
        slanted against the detector's normal.
        """
        x, y, z = transform_points(view.camera_from_ras, self._ras(self.BALL_IJK))[0]
        pixel_cm2 = np.prod(view.intrinsics.pixel_spacing_mm) / 100
        magnification = view.intrinsics.source_to_detector_mm / z
        slant = z / np.sqrt(x**2 + y**2 + z**2)
        return float(area_density.sum(dtype=float) * pixel_cm2 / magnification**2 * slant)

    def block_pixel(self, view: View) -> tuple[int, int]:
        """Row and column of the pixel nearest to the block's middle."""
        column, row = np.round(view.project(self._ras(self.BLOCK_IJK))[0]).astype(int)
        return int(row), int(column)

    def block_g_per_cm2(self, view: View) -> float:
        """The block's area density at `block_pixel`, by adding up along its ray."""
        row, column = self.block_pixel(view)
        direction = view.ray(np.array([[column, row]], float))[0]
        step_mm = 0.01
        distance_mm = np.arange(500.0, 700.0, step_mm)
        points_ras_mm = view.source_ras_mm + distance_mm[:, None] * direction
        points_ijk = transform_points(np.linalg.inv(self.ras_from_ijk), points_ras_mm)
        return float(self._block(points_ijk).sum() * step_mm / 10)

    def _block(self, points_ijk: NDArray) -> NDArray:
        """Density, g/cm3: 1 in the block, falling to 0 over three voxels from centre to centre."""
        inside = self.BLOCK_VOXELS / 2 + 1.5 - np.abs(points_ijk - self.BLOCK_IJK)
        return np.clip(inside / 3, 0, 1).prod(axis=-1)

    def _ras(self, point_ijk: NDArray) -> NDArray:
        return transform_points(self.ras_from_ijk, point_ijk[None])


class _Connection:
    """The one child that this process talks to: started when it is first needed, or needed again.

    One at a time holds `lock`. Do not fork a process that has used it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._child: Child | None = None
        self._calibration: Calibration | None = None

    def child(self, key: object = None) -> tuple[Child, Calibration]:
        """A living, measured child; an old one is replaced, unless it holds the volume `key`."""
        old = self._child
        spent = old is not None and old.n_loads >= LOADS_PER_CHILD and old.loaded is not key
        if old is None or spent or not old.alive:
            self.close()
            child = Child(find_python())
            try:
                self._calibration = calibrate(child)
            except BaseException:
                child.close()
                raise
            self._child = child
        return self._child, self._calibration

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.close()
        self._child = None


_connection = _Connection()
