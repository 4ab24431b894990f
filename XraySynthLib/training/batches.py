"""Batches made while the last one is learned from."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch.utils.data import default_collate

Example = dict[str, torch.Tensor]
AHEAD = 3
"""Batches begun before they are asked for."""


def batches(
    example: Callable[[int], Example],
    numbers: range,
    batch_images: int,
    n_threads: int,
    device: torch.device,
) -> Iterator[Example]:
    """Make numbered examples in threads, and batches of them in order.

    Threads, not processes: images lie in memory once, nothing is copied between processes, and
    NumPy, OpenCV and torch let go of the interpreter while they work.

    Args:
        example: Makes an example from its number.
        numbers: Of the examples; what does not fill a batch is left out.
        batch_images: Examples of a batch.
        n_threads: Threads, 1 or more.
        device: Where batches go.
    """
    begun: deque = deque()
    with ThreadPoolExecutor(n_threads, "examples") as pool:
        try:
            for first in range(0, len(numbers) - batch_images + 1, batch_images):
                chunk = numbers[first : first + batch_images]
                begun.append([pool.submit(example, number) for number in chunk])
                if len(begun) > AHEAD:
                    yield _collated(begun.popleft(), device)
            while begun:
                yield _collated(begun.popleft(), device)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _collated(futures: list, device: torch.device) -> Example:
    batch = default_collate([future.result() for future in futures])
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
