"""Networks of the landmark detector at equal processor time; a CSV.

    python Testing/benchmark/detector_networks.py --data SET [SET ...] [--cpu-s 120]

SET is an exported set with a train and a val split. Each network learns with the options of `train
landmarks` for the same seconds of one thread's processor time, making images ready included; its
learning rate falls to nothing at the end of them. Then it is scored on the same randomised images
of the val split, in mm in the isocentre's plane. One seed: gaps of a few tenths of a mm mean
nothing.
"""

import argparse
import csv
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from accelerate import Accelerator

from XraySynthLib.detection.examples import Examples, Shares
from XraySynthLib.detection.learning import learn, new_state, validate, validation_set
from XraySynthLib.detection.network import NetworkConfig, n_parameters
from XraySynthLib.training.schedule import Schedule
from XraySynthLib.workflows.train_landmarks import TrainLandmarksConfig, randomisation, read_sets

BATCH_IMAGES, LEARNING_RATE, PROBE_IMAGES = 16, 2e-3, 96
WIDE = (32, 64, 96, 128, 160)
NETWORKS = (
    (192, NetworkConfig(14, "unet", WIDE, 4)),
    (192, NetworkConfig(14, "segresnet", (16, 32, 64, 128), 4)),
    (128, NetworkConfig(14, "unet", WIDE, 4)),
    (192, NetworkConfig(14, "unet", WIDE, 2)),
)


def row_of(paths: list[Path], side_px: int, network: NetworkConfig, cpu_s: float) -> dict:
    """Train and score one network."""
    options = TrainLandmarksConfig(
        data=tuple(paths), output=Path(), side_px=side_px, validation_images=300, progress="none"
    )
    stores, watched = read_sets(options)
    randomise = randomisation("strong")
    examples = Examples(stores, [1.0] * len(stores), side_px, randomise, Shares(), 0)
    accelerator = Accelerator(cpu=True)

    def trained(images: int) -> tuple[torch.nn.Module, float]:
        state = new_state(network, 0, 2000, 1e-2)
        schedule = Schedule(LEARNING_RATE, images, images // 20)
        start = time.process_time()
        for _ in learn(state, examples, schedule, BATCH_IMAGES, accelerator, 1):
            pass
        return state.average.model, time.process_time() - start

    trained(BATCH_IMAGES)  # the first step is slower
    images = int(cpu_s / (trained(PROBE_IMAGES)[1] / PROBE_IMAGES))
    model, used_s = trained(images - images % BATCH_IMAGES)
    scores, _, _ = validate(model, validation_set(watched, side_px, randomise, 300, 1))
    start = time.process_time()
    with torch.inference_mode():
        for _ in range(5):
            model(torch.zeros(2, 2, side_px, side_px))
    return {
        "architecture": network.architecture,
        "channels": " ".join(map(str, network.channels)),
        "side_px": side_px,
        "stride": network.stride,
        "parameters": n_parameters(model),
        "cpu_s": round(used_s, 1),
        "images": images,
        "train_ms_an_image": round(1000 * used_s / images, 1),
        "forward_ms_both_ways": round((time.process_time() - start) * 200, 1),
        **{name: None if v is None else round(v, 3) for name, v in scores.to_dict().items()},
    }


def main() -> None:
    """Run all networks; write a row after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--cpu-s", type=float, default=120.0)
    parser.add_argument("--first", type=int, default=len(NETWORKS), help="only so many networks")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("detector_networks.csv")
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows: list[dict] = []
    for side_px, network in NETWORKS[: options.first]:
        rows.append(row_of(options.data, side_px, network, options.cpu_s))
        print(rows[-1], flush=True)
        with options.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
