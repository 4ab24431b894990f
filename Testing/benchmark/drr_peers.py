"""Compare CPU projectors: time, memory and error against line integrals known exactly.

    python Testing/benchmark/drr_peers.py [--engines xraysynth-numba,rtk-joseph] [--output FILE]

The scene: the abdomen of `phantom.py` on 256^3 voxels of 1.5 mm, source to
detector 1020 mm, source to isocentre 660 mm, a detector 397.3 mm wide; seen from the front with
512^2 and 1024^2 pixels, and with 512^2 obliquely (primary 30, secondary 20 degrees) and nearly
from the front (2.3, -1.4), where a real C-arm stands: at 0/0 an engine may gain from a detector
that is parallel to the voxels' slices. Each engine gets the whole volume and the volume cropped
to its non-air box (and one voxel of air around it).

Installation of the peers (a peer that is missing gets a row that says so):

    pip install itk-rtk==2.7.0.post1 nanodrr==0.1.7 einops fastcore scipy
    pip install --no-deps diffdrr==0.6.1
    apt-get install plastimatch

How it is measured. Each engine, volume and view has a fresh child process and all the machine's
processors. The child imports the engine and makes one 16^2 image of a 16^3 volume, which pays for
compilers and thread pools (`start_s`). Then it loads the volume from disk (not timed), lets the
engine keep what it needs of it (`prepare_s`), makes one image to warm up (`first_s`: more than
`wall_s` where an engine prepares on demand), and then takes the median over the repetitions.
DiffDRR takes so long that it is timed once, without the warm image, and on two views only; all
engines together take half an hour on two processors.

- `wall_s`, `cpu_s`: one image, from a `View` to an array (rows, columns) of ours, CPU seconds
  summed over all threads and, where there are any, child processes.
- `kernel_s`: what of `wall_s` is the engine's projection alone, where that can be told. RTK: the
  update of the filter, without its geometry and without turning the image. plastimatch: the
  time it prints, less its own writing; `wall_s` also has the start of a process and the reading
  of the volume. To favour the peers, compare their `kernel_s` with our `wall_s`.
- `peak_mb`: the largest resident memory from the load of the volume to the last image, less the
  resident memory just before the load: the volume itself counts (64 MiB whole), libraries do
  not. plastimatch: its largest process less the one of the 16^3 volume. `process_mb`: the
  same peak with nothing taken off, libraries and Python (for plastimatch its own) included.
- Errors, as a part of the truth's largest line integral: `mean_error`, `max_error` over the
  image; `rim_free_error`, the mean where no ray grazes a surface; `smooth_mean_error` and
  `smooth_max_error` on the phantom of Gaussians, where voxels have no staircase.
- `ball_px`: distance between the centroid of a small ball's image and `View.project` of its
  centre. An engine that misplaces it by more than 0.3 px fails and gets no times: it would be
  measured on another view.

Each peer is set up to be as fast as its interface fairly allows: RTK keeps its volume, its filter
and its zero image in memory and splits the work into four parts a thread, which balances it;
torch runs without gradients; nanodrr takes 256 samples a ray, one a voxel (its default of 500
takes twice as long for an error 2% smaller), diffdrr its default of 500 along a range that it
does not fit to each ray, in patches of 128^2 pixels (its own option, which saves gigabytes).
torch interpolates in a single volume on one thread only, whatever the number of threads. No
volume is copied.
"""

import argparse
import csv
import importlib.metadata
import itertools
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import phantom  # noqa: E402

from XraySynthLib.errors import EngineError  # noqa: E402
from XraySynthLib.geometry import CArmPose, Intrinsics, View, view_from_carm  # noqa: E402
from XraySynthLib.geometry.transforms import LPS_FROM_RAS, translation  # noqa: E402

VIEWS_FOR_SLOW = ("ap", "oblique")
SLOW = ("diffdrr-trilinear", "diffdrr-siddon")
SOURCE_TO_ISOCENTER_MM, DETECTOR_MM = 660.0, 397.3
VIEWS = {
    "ap": (0, 0, 512),
    "near-ap": (2.3, -1.4, 512),
    "oblique": (30, 20, 512),
    "ap-1024": (0, 0, 1024),
}
"""primary_deg, secondary_deg, pixels along each side."""
BALL = phantom.Body((60.0, 30.0, -45.0), (8.0, 8.0, 8.0))
BALL_TOLERANCE_PX = 0.3
AIR_G_PER_CM3 = 1e-5
CM_PER_MM = 0.1
COLUMNS = [
    *("engine", "version", "status", "volume", "view", "rows", "columns"),
    *("wall_s", "cpu_s", "kernel_s", "first_s", "prepare_s", "start_s", "peak_mb", "process_mb"),
    *("mean_error", "max_error", "rim_free_error", "smooth_mean_error", "smooth_max_error"),
    *("ball_px", "repetitions", "threads", "processor"),
]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


class Engine(Protocol):
    """A projector; making one imports its library.

    Attributes:
        distribution: The package whose version is reported.
        kernel_s: Seconds of the last projection alone, or None where that cannot be told.
    """

    distribution: str
    kernel_s: float | None

    def prepare(self, density: NDArray, ras_from_ijk: NDArray) -> None:
        """Take a volume, (K, J, I) float32 g/cm3, for the images to come."""

    def project(self, view: View) -> NDArray:
        """(rows, columns) area density, g/cm2."""


class Ours:
    """This project's engines; what they keep of the last materials goes with them."""

    distribution, kernel_s = "xraysynth", None

    def __init__(self, engine: str) -> None:
        from XraySynthLib import drr

        self.drr, self.engine = drr, engine

    def prepare(self, density: NDArray, ras_from_ijk: NDArray) -> None:
        self.materials = self.drr.Materials(
            names=("soft tissue",), density_g_per_cm3=density[None], ras_from_ijk=ras_from_ijk
        )
        self.drr.prepare(self.materials, self.engine)

    def project(self, view: View) -> NDArray:
        return self.drr.project(self.materials, view, engine=self.engine)[0]


class RtkJoseph:
    """ITK's Reconstruction Toolkit, CPU, Joseph's method; RAS serves as its fixed frame."""

    distribution = "itk-rtk"
    WORK_UNITS_PER_THREAD = 4

    def __init__(self) -> None:
        import itk
        from itk import RTK

        self.itk, self.rtk, self.kernel_s = itk, RTK, None
        self.image_type = itk.Image[itk.F, 3]
        self.filter = RTK.JosephForwardProjectionImageFilter[self.image_type, self.image_type].New()
        self.filter.InPlaceOff()  # in place, the second image would be added onto the first
        units = self.WORK_UNITS_PER_THREAD * n_threads()
        self.filter.SetNumberOfWorkUnits(units)
        self.zeros = None

    def prepare(self, density: NDArray, ras_from_ijk: NDArray) -> None:
        spacing = np.linalg.norm(ras_from_ijk[:3, :3], axis=0)
        volume = self.itk.image_view_from_array(density)
        volume.SetOrigin(ras_from_ijk[:3, 3].tolist())
        volume.SetSpacing(spacing.tolist())
        volume.SetDirection(self.itk.matrix_from_array(ras_from_ijk[:3, :3] / spacing))
        self.filter.SetInput(1, volume)
        self.volume = density, volume  # the image is a view of the array

    def project(self, view: View) -> NDArray:
        intrinsics = view.intrinsics
        if self.zeros is None or tuple(self.itk.size(self.zeros))[1::-1] != intrinsics.shape_px:
            self._set_detector(view if not intrinsics.mirrored else view.columns_reversed())
        itk, axes = self.itk, view.ras_from_camera[:3, :3]
        center = view.source_ras_mm + axes[:, 2] * intrinsics.source_to_detector_mm
        points = [itk.Point[itk.D, 3](p.tolist()) for p in (view.source_ras_mm, center)]
        vectors = [itk.Vector[itk.D, 3](axes[:, n].tolist()) for n in (0, 1)]
        geometry = self.rtk.ThreeDCircularProjectionGeometry.New()
        if not geometry.AddProjection(*points, *vectors):
            raise ValueError("RTK refuses the view.")
        self.filter.SetGeometry(geometry)
        self.filter.Modified()
        start = time.perf_counter()
        self.filter.UpdateLargestPossibleRegion()  # the last detector may have been larger
        self.kernel_s = time.perf_counter() - start
        image = itk.array_view_from_image(self.filter.GetOutput())[0]
        return CM_PER_MM * (image[:, ::-1] if intrinsics.mirrored else image)

    def _set_detector(self, view: View) -> None:
        """Make the zero image that the filter adds to; its first axis runs along the camera's x."""
        rows, columns = view.intrinsics.shape_px
        spacing = view.intrinsics.pixel_spacing_mm
        self.zeros = self.image_type.New()
        self.zeros.SetRegions([columns, rows, 1])
        self.zeros.SetSpacing([*spacing.tolist(), 1.0])
        self.zeros.SetOrigin([*(-view.intrinsics.principal_point_px * spacing).tolist(), 0.0])
        self.zeros.Allocate(True)
        self.filter.SetInput(0, self.zeros)


class Plastimatch:
    """Debian's plastimatch, a program: files in and out, LPS, its axes are the panel's."""

    distribution = "plastimatch"

    def __init__(self, algorithm: str) -> None:
        if shutil.which("plastimatch") is None:
            raise ImportError("no program named plastimatch")
        self.algorithm, self.kernel_s = algorithm, None
        self.folder = tempfile.TemporaryDirectory()

    def prepare(self, density: NDArray, ras_from_ijk: NDArray) -> None:
        lps_from_ijk = LPS_FROM_RAS @ ras_from_ijk
        spacing = np.linalg.norm(lps_from_ijk[:3, :3], axis=0)
        directions = (lps_from_ijk[:3, :3] / spacing).T  # MetaImage writes one axis after another
        header = {
            "ObjectType": "Image",
            "NDims": 3,
            "BinaryData": True,
            "BinaryDataByteOrderMSB": False,
            "TransformMatrix": _words(directions.ravel()),
            "Offset": _words(lps_from_ijk[:3, 3]),
            "ElementSpacing": _words(spacing),
            "DimSize": _words(density.shape[::-1]),
            "ElementType": "MET_FLOAT",
            "ElementDataFile": "LOCAL",
        }
        with Path(self.folder.name, "volume.mha").open("wb") as file:
            file.write("".join(f"{key} = {value}\n" for key, value in header.items()).encode())
            density.astype("<f4", copy=False).tofile(file)

    def project(self, view: View) -> NDArray:
        if not np.allclose(view.intrinsics.principal_point_px, _middle(view)):
            raise ValueError("This adapter has no shifted principal point.")
        lps_axes = LPS_FROM_RAS[:3, :3] @ view.ras_from_camera[:3, :3]
        center = view.source_ras_mm + view.ras_from_camera[:3, 2] * SOURCE_TO_ISOCENTER_MM
        options = {
            "--algorithm": self.algorithm,
            "--threading": "cpu",
            "--hu-conversion": "none",
            "--output-format": "pfm",
            "--dim": _words(view.intrinsics.shape_px),
            "--detector-size": _words(view.intrinsics.size_mm[::-1]),
            "--sad": f"{SOURCE_TO_ISOCENTER_MM}",
            "--sid": f"{view.intrinsics.source_to_detector_mm}",
            "--nrm": _words(-lps_axes[:, 2]),
            "--vup": _words(-lps_axes[:, 1]),
            "--isocenter": _words(LPS_FROM_RAS[:3, :3] @ center),
            "--input": "volume.mha",
            "--output": "image",
        }
        command = ["plastimatch", "drr", *(word for pair in options.items() for word in pair)]
        done = subprocess.run(
            command, cwd=self.folder.name, check=True, capture_output=True, text=True
        )
        seconds = dict(re.findall(r"(I/O|Total) time: ([\d.eE+-]+)", done.stdout))
        self.kernel_s = float(seconds["Total"]) - float(seconds["I/O"])
        data = Path(self.folder.name, "image0000.pfm").read_bytes().split(b"\n", 3)[3]
        image = np.frombuffer(data, "<f4").reshape(view.intrinsics.shape_px)
        return image[:, ::-1] if view.intrinsics.mirrored else image


class NanoDrr:
    """nanodrr, its torch back end (the other ones need a GPU)."""

    distribution, kernel_s = "nanodrr", None
    N_SAMPLES = 256

    def __init__(self) -> None:
        import torch
        from nanodrr.data import Subject
        from nanodrr.drr import render

        self.torch, self.subject_type, self.render = torch, Subject, render

    def prepare(self, density: NDArray, ras_from_ijk: NDArray) -> None:
        tensor = self.torch.from_numpy
        size = np.array(density.shape[::-1])
        grid_from_ijk = np.diag([*(2 / size), 1.0])
        grid_from_ijk[:3, 3] = 1 / size - 1
        volume = tensor(density)[None, None]  # (1, 1, K, J, I)
        matrices = ras_from_ijk, np.linalg.inv(ras_from_ijk), grid_from_ijk
        self.subject = self.subject_type(
            volume,
            self.torch.zeros(1, 1, 1, 1, 1),  # no labels
            *(tensor(matrix).float() for matrix in matrices),
            isocenter=self.torch.zeros(3),
            convert_to_mu=False,
        )

    def project(self, view: View) -> NDArray:
        rows, columns = view.intrinsics.shape_px
        camera_from_px = np.linalg.inv(translation_px(0.5) @ view.intrinsics.px_from_camera)
        tensor = self.torch.from_numpy
        with self.torch.inference_mode():
            image = self.render(
                self.subject,
                tensor(camera_from_px).float()[None],
                tensor(np.array(view.ras_from_camera)).float()[None],
                self.torch.tensor([view.intrinsics.source_to_detector_mm]),
                rows,
                columns,
                n_samples=self.N_SAMPLES,
            )
        return CM_PER_MM * image[0, 0].numpy()


class DiffDrr:
    """DiffDRR, `renderer` "siddon" or "trilinear"."""

    distribution, kernel_s = "diffdrr", None
    PATCH_PX = 128

    def __init__(self, renderer: str) -> None:
        import torch
        from diffdrr.drr import DRR
        from diffdrr.pose import RigidTransform

        self.torch, self.module_type, self.pose_type = torch, DRR, RigidTransform
        self.renderer = renderer

    def prepare(self, density: NDArray, ras_from_ijk: NDArray) -> None:
        volume = self.torch.from_numpy(density).permute(2, 1, 0)[None]  # (1, I, J, K), a view
        self.subject = SimpleNamespace(
            volume=SimpleNamespace(affine=ras_from_ijk),
            density=SimpleNamespace(data=volume),
            mask=None,
            reorient=self.torch.eye(4),
        )
        self.module = None

    def project(self, view: View) -> NDArray:
        intrinsics = view.intrinsics
        rows, columns = intrinsics.shape_px
        if rows % 2 or columns % 2 or not np.allclose(intrinsics.principal_point_px, _middle(view)):
            raise ValueError("This adapter wants an even number of pixels about their middle.")
        if self.module is None:
            self.module = self.module_type(
                self.subject,
                sdd=intrinsics.source_to_detector_mm,
                height=rows,
                width=columns,
                delx=intrinsics.pixel_spacing_mm[0],
                dely=intrinsics.pixel_spacing_mm[1],
                reverse_x_axis=intrinsics.mirrored,
                patch_size=min(self.PATCH_PX, rows),
                renderer=self.renderer,
            ).float()
        ras_from_theirs = view.ras_from_camera @ np.diag([1.0, -1.0, 1.0, 1.0])  # +y is up
        pose = self.pose_type(self.torch.from_numpy(ras_from_theirs).float())
        with self.torch.inference_mode():
            return CM_PER_MM * self.module(pose)[0, 0].numpy()


ENGINES: dict[str, Any] = {
    "xraysynth-numba": lambda: Ours("numba"),
    "xraysynth-torch": lambda: Ours("torch"),
    "rtk-joseph": RtkJoseph,
    "plastimatch-exact": lambda: Plastimatch("exact"),
    "plastimatch-uniform": lambda: Plastimatch("uniform"),
    "nanodrr": NanoDrr,
    "diffdrr-trilinear": lambda: DiffDrr("trilinear"),
    "diffdrr-siddon": lambda: DiffDrr("siddon"),
}


def _words(values: Any) -> str:
    return " ".join(f"{value:.10g}" for value in values)


def _middle(view: View) -> NDArray:
    """(2,) column and row of the detector's middle, px."""
    return (np.array(view.intrinsics.shape_px[::-1]) - 1) / 2


def translation_px(shift_px: float) -> NDArray:
    """(3, 3) matrix that adds `shift_px` to column and row."""
    matrix = np.eye(3)
    matrix[:2, 2] = shift_px
    return matrix


def n_threads() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))


def processor_name() -> str:
    """The processor's name as the system gives it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def make_view(name: str) -> View:
    """Return the view of `VIEWS` called `name`, on the whole detector."""
    primary_deg, secondary_deg, side = VIEWS[name]
    pose = CArmPose(primary_deg, secondary_deg, source_to_isocenter_mm=SOURCE_TO_ISOCENTER_MM)
    spacing_mm = np.full(2, DETECTOR_MM / side)
    return view_from_carm(pose, Intrinsics(pixel_spacing_mm=spacing_mm, shape_px=(side, side)))


def cropped(density: NDArray, ras_from_ijk: NDArray) -> tuple[NDArray, NDArray]:
    """Cut a volume down to its non-air box and one voxel around it."""
    spans = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        filled = np.flatnonzero((density > AIR_G_PER_CM3).any(axis=others))
        spans.append(slice(max(filled[0] - 1, 0), filled[-1] + 2))
    start_ijk = [span.start for span in reversed(spans)]
    return np.ascontiguousarray(density[tuple(spans)]), ras_from_ijk @ translation(start_ijk)


def write_volumes(folder: Path) -> None:
    """Write every volume, whole and cropped, each with its `ras_from_ijk`."""
    bodies = {"abdomen": phantom.abdomen(), "smooth": phantom.smooth_abdomen(), "ball": (BALL,)}
    for name, parts in bodies.items():
        whole = phantom.voxelised(parts)
        for volume, (density, ras_from_ijk) in {"full": whole, "cropped": cropped(*whole)}.items():
            np.save(folder / f"{name}-{volume}.npy", density)
            np.save(folder / f"{name}-{volume}-ras_from_ijk.npy", ras_from_ijk)


def read_volume(folder: Path, name: str, volume: str) -> tuple[NDArray, NDArray]:
    """Read what `write_volumes` wrote."""
    matrix = np.load(folder / f"{name}-{volume}-ras_from_ijk.npy")
    return np.load(folder / f"{name}-{volume}.npy"), matrix


def memory_mb(field: str) -> float:
    """`VmRSS` or `VmHWM` of this process, MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def children_peak_mb() -> float:
    """Largest resident memory of any child process that has ended, MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6


def cpu_seconds() -> float:
    """User and system time of this process, its threads and its ended children."""
    usages = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(engine_name: str, volume: str, view_name: str, repetitions: int, folder: Path) -> dict:
    """Measure one engine on one volume and view; runs in a process of its own."""
    view = make_view(view_name)
    start = time.perf_counter()
    engine: Engine = ENGINES[engine_name]()
    engine.prepare(*phantom.voxelised((BALL,), (16, 16, 16), 12.0))
    engine.project(view.resized(16, 16))
    row: dict[str, Any] = {"start_s": time.perf_counter() - start}

    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from here
    before_mb, children_before_mb = memory_mb("VmRSS"), children_peak_mb()
    density, ras_from_ijk = read_volume(folder, "abdomen", volume)
    start = time.perf_counter()
    engine.prepare(density, ras_from_ijk)
    row["prepare_s"] = time.perf_counter() - start
    if engine_name in SLOW:
        repetitions = 1
    else:
        start = time.perf_counter()
        engine.project(view)
        row["first_s"] = time.perf_counter() - start
    walls, cpus, kernels = [], [], []
    for _ in range(repetitions):
        start, start_cpu = time.perf_counter(), cpu_seconds()
        image = engine.project(view)
        walls.append(time.perf_counter() - start)
        cpus.append(cpu_seconds() - start_cpu)
        kernels.append(engine.kernel_s)
    row |= {"wall_s": statistics.median(walls), "cpu_s": statistics.median(cpus)}
    if kernels[0] is not None:
        row["kernel_s"] = statistics.median(kernels)
    children_mb = children_peak_mb() - children_before_mb
    in_child = engine.distribution == "plastimatch"
    row["peak_mb"] = children_mb if in_child else memory_mb("VmHWM") - before_mb
    row["process_mb"] = children_peak_mb() if in_child else memory_mb("VmHWM")

    truth = phantom.line_integrals(phantom.abdomen(), view)
    error = np.abs(image - truth) / truth.max()
    rim_free = phantom.rim_free(phantom.abdomen(), view)
    row |= {"mean_error": error.mean(), "max_error": error.max()}
    row["rim_free_error"] = error[rim_free].mean()

    engine.prepare(*read_volume(folder, "smooth", volume))
    truth = phantom.line_integrals(phantom.smooth_abdomen(), view)
    error = np.abs(engine.project(view) - truth) / truth.max()
    row |= {"smooth_mean_error": error.mean(), "smooth_max_error": error.max()}

    engine.prepare(*read_volume(folder, "ball", volume))
    row["ball_px"] = ball_offset_px(engine.project(view), view)
    if not row["ball_px"] <= BALL_TOLERANCE_PX:
        raise AssertionError(f"{engine_name} misplaces the ball by {row['ball_px']:.2f} px")
    return row | {"repetitions": repetitions, "version": version(engine)}


def ball_offset_px(image: NDArray, view: View) -> float:
    """Distance of the image's centroid from where the view puts the ball, px."""
    image = np.where(image > 0.01 * image.max(), image, 0).astype(float)
    row, column = np.indices(image.shape)
    centroid = np.array([(column * image).sum(), (row * image).sum()]) / image.sum()
    expected = view.project(np.array([BALL.center_ras_mm]))[0]
    return float(np.linalg.norm(centroid - expected))


def version(engine: Engine) -> str:
    """Version of the engine's package, or of the program plastimatch."""
    if engine.distribution == "plastimatch":
        said = subprocess.run(["plastimatch", "--version"], capture_output=True, text=True).stdout
        return said.split()[-1]
    if engine.distribution == "xraysynth":
        from XraySynthLib import __version__

        return __version__
    return importlib.metadata.version(engine.distribution)


def measure_in_child(job: dict, threads: int) -> dict:
    """Run `measure` in a fresh process; its errors become the row's status."""
    environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    command = [sys.executable, __file__, "--job", json.dumps(job)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    if done.returncode == 0 and lines:
        return json.loads(lines[-1])
    reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return {"status": f"failed: {reason}"}


def run_job(job: dict) -> None:
    """The child's side: print the row as the last line."""
    try:
        row = {"status": "ok"} | measure(**job | {"folder": Path(job["folder"])})
    except (ImportError, EngineError) as error:
        row = {"status": f"not installed: {error}"}
    print()
    print(json.dumps(row, default=float))  # numpy's scalars


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", default=",".join(ENGINES), help="names, separated by commas")
    parser.add_argument("--views", default=",".join(VIEWS), help="names, separated by commas")
    parser.add_argument("--volumes", default="full,cropped", help="names, separated by commas")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--output", type=Path, default=HERE / "drr_peers.csv")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        run_job(json.loads(options.job))
        return
    names = options.engines.split(",")
    if unknown := sorted(set(names) - set(ENGINES)):
        parser.error(f"there is no engine {unknown}; there are {', '.join(ENGINES)}")
    volumes, views = options.volumes.split(","), options.views.split(",")
    machine = {"threads": n_threads(), "processor": processor_name()}
    with tempfile.TemporaryDirectory() as folder, options.output.open("w", newline="") as file:
        write_volumes(Path(folder))
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for name in names:
            for volume, view in itertools.product(volumes, views):
                if name in SLOW and view not in VIEWS_FOR_SLOW:
                    continue
                job = {"engine_name": name, "volume": volume, "view_name": view}
                job |= {"repetitions": options.repetitions, "folder": folder}
                row = measure_in_child(job, machine["threads"])
                side = VIEWS[view][2]
                row |= {"engine": name, "volume": volume, "view": view} | machine
                row |= {"rows": side, "columns": side}
                row = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()}
                writer.writerow(row)
                file.flush()
                print(" ".join(f"{k}={row[k]}" for k in COLUMNS[:-2] if k in row), flush=True)
                if row["status"].startswith("not installed"):
                    break


if __name__ == "__main__":
    main()
