"""Learning rates, by the number of images seen."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A linear rise, then half a cosine down to nothing.

    Attributes:
        learning_rate: The greatest.
        total_images: When it ends.
        warmup_images: How long it rises.

    Raises:
        ValueError: If the rise is longer than the whole, or a number is not positive.
    """

    learning_rate: float
    total_images: int
    warmup_images: int

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and 0 <= self.warmup_images < self.total_images):
            raise ValueError(
                "A schedule needs a positive learning rate and a warm-up shorter than itself."
            )

    def at(self, images: int) -> float:
        """Learning rate once `images` have been seen."""
        if images < self.warmup_images:
            return self.learning_rate * images / self.warmup_images
        done = (images - self.warmup_images) / (self.total_images - self.warmup_images)
        return self.learning_rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2
