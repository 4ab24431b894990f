"""What is kept of a training run while it goes on: log, its picture, TensorBoard, checkpoint."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from XraySynthLib.training.loop import Step, TrainingState
    from XraySynthLib.training.run_folder import RunFolder

LOSS_PICTURE = "loss.png"
Look = Callable[[], Mapping[str, float | None]]
"""Validates, writes pictures and the model so far; returns scores for the log."""


class Watch:
    """Looks at a run now and then.

    Args:
        folder: The run's.
        state: What is trained.
        accelerator: Made ready with it.
        check_images: After so many images: a look, a line in the log, a checkpoint.
        look: What to do then, before the checkpoint is written.
    """

    def __init__(
        self,
        folder: "RunFolder",
        state: "TrainingState",
        accelerator: Any,
        check_images: int,
        look: Look,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.state, self.accelerator = folder, state, accelerator
        self.check_images, self.look = check_images, look
        self.board = SummaryWriter(str(folder.path / "tensorboard"), purge_step=state.images)
        self.losses: list[dict[str, float]] = []
        self.learning_rate = 0.0
        self.start, self.first = monotonic(), state.images
        self.checked, self.n_checks = state.images, state.images // check_images

    def note(self, step: "Step") -> None:
        """Take a step in; check where it is time to."""
        self.losses.append({"loss": step.loss, **step.details})
        self.learning_rate = step.learning_rate
        due = step.images // self.check_images
        if due > self.n_checks:
            self.n_checks = due
            self.check()

    def check(self) -> None:
        """Look, write the log and, last, the checkpoint."""
        if not self.accelerator.is_main_process:
            return
        from XraySynthLib.workflows.training_figures import write_loss_picture

        entry: dict[str, Any] = {"images": self.state.images, "learning_rate": self.learning_rate}
        if self.losses:
            keys = self.losses[0]
            entry |= {key: float(np.mean([one[key] for one in self.losses])) for key in keys}
            seconds = max(monotonic() - self.start, 1e-9)
            entry["images_per_s"] = round((self.state.images - self.first) / seconds, 2)
        self.losses, self.checked = [], self.state.images
        entry |= {f"val_{name}": value for name, value in self.look().items()}
        self.folder.append(entry)
        write_loss_picture(self.folder.log, self.folder.path / LOSS_PICTURE)
        for name, value in entry.items():
            if name != "images" and value is not None:
                self.board.add_scalar(name.replace("_", "/", 1), value, self.state.images)
        self.folder.save(self.accelerator, self.state)

    def close(self) -> None:
        """Check what was learned since the last time, and end."""
        if self.state.images > self.checked:
            self.check()
        self.board.close()
