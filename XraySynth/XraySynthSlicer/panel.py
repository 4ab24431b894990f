"""A button that starts a job and then cancels it, with a progress bar and a line of text."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from XraySynthSlicer.jobs import Job, State
from XraySynthSlicer.nodes import face

POLL_MS = 100
STAGES = {
    "generate": _("Making CTs"),
    "fit": _("Fitting the shape model"),
    "project": _("Taking X-rays"),
    "export": _("Making images"),
    "sample": _("Making X-rays"),
    "look": _("Looking for what is there already"),
    "verify": _("Checking what is there already"),
    "assemble": _("Writing the set"),
    "report": _("Drawing the contact sheet"),
    "detect": _("Looking for landmarks"),
    "register": _("Finding the C-arm"),
}
"""What a panel calls what a child process is at."""
T = TypeVar("T")


def in_background(work: Callable[[], T]) -> T:
    """Do in a thread what touches no node, while the application stays awake."""
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(work)
        while not made.done():
            slicer.app.processEvents()
            time.sleep(0.005)  # the thread's turn
    return made.result()


def connect_gui(parameters: Any, ui: Any) -> Any:
    """Bind the widgets that name a parameter; returns what `disconnectGui` takes.

    Slicer's own `connectGui` returns nothing (Slicer#7547): what it has bound stays bound.
    """
    name = "SlicerParameterName"
    widgets = {one.property(name): one for one in vars(ui).values() if one.property(name)}
    return parameters.connectParametersToGui(widgets)


def bind_path(widget: Any, parameters: Any, name: str) -> Callable[[], None]:
    """Keep a ctkPathLineEdit and a text of the parameter node alike; returns what ends that.

    Slicer binds such a widget to `pathlib.Path` alone, which has no empty path.
    """

    def to_node(*_: object) -> None:
        if getattr(parameters, name) != widget.currentPath:
            setattr(parameters, name, widget.currentPath)

    def to_widget(*_: object) -> None:
        if widget.currentPath != getattr(parameters, name):
            widget.currentPath = getattr(parameters, name)

    to_widget()
    widget.currentPathChanged.connect(to_node)
    tag = parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, to_widget)

    def end() -> None:
        widget.currentPathChanged.disconnect(to_node)
        parameters.RemoveObserver(tag)

    return end


def show_in_red_view(image: Any, frame: int = 0, fit: bool = True) -> None:
    """Turn the red slice view to an image; see `nodes.face`."""
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    shown = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    if red is not None and shown is not None:
        shown.SetBackgroundVolumeID(image.GetID())
        face(red, image, frame, fit)


class JobPanel:
    """One job at a time.

    Args:
        button: Starts and cancels.
        bar: QProgressBar, shown while a job runs.
        status: QLabel for what happens, and for errors.
        start: Called by the button; it calls `run`.
        changed: Called when a job has begun or ended, to see to what can be pressed.
    """

    def __init__(
        self,
        button: Any,
        bar: Any,
        status: Any,
        start: Callable[[], None],
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        self._button, self._bar, self._status, self._start = button, bar, status, start
        self._changed = changed
        self._text = button.text
        self._job: Job | None = None
        self._automatic = False
        self._done: Callable[[], None] | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self._poll)
        self._button.clicked.connect(self._pressed)
        self._bar.setVisible(False)

    @property
    def running(self) -> bool:
        """Whether a job runs."""
        return self._job is not None

    @property
    def automatic(self) -> bool:
        """Whether a job runs that nobody asked for: the button starts one, and this makes way."""
        return self.running and self._automatic

    def run(self, job: Job, done: Callable[[], None], automatic: bool = False) -> None:
        """Follow a job; `done` is called when it has ended well. One that ran is cancelled."""
        self.cancel()
        self._job, self._done, self._automatic = job, done, automatic
        if not automatic:
            self._button.text = _("Cancel")
        self._bar.setRange(0, 0)  # busy, as long as nothing is done
        self._bar.setVisible(True)
        self.say(_("Starting ..."))
        self._timer.start()
        self._changed()

    def cancel(self) -> None:
        """End the job, if one runs, and everything it has started."""
        if self._job is not None:
            self._job.cancel()
            self._finish(_("Cancelled."))

    def clear(self) -> None:
        """End the job, if one runs, and say nothing of what was: the scene goes."""
        self.cancel()
        self.say("")

    def say(self, text: str) -> None:
        """Write a line below the button."""
        self._status.text = text

    def _pressed(self, *_arguments: object) -> None:
        if self.running and not self._automatic:
            self.cancel()
        else:
            self.attempt(self._start)

    def attempt(self, action: Callable[[], None]) -> None:
        """Do what a button asks for; an error is shown, and its sentence stays in the line."""
        with slicer.util.tryWithErrorDisplay(_("This did not work:"), waitCursor=True):
            try:
                action()
            except Exception as error:
                self.say(str(error))
                raise

    def _poll(self) -> None:
        job = self._job
        if job is None:
            return
        state = job.poll()
        if state is State.RUNNING:
            if job.progress.fraction:
                self._bar.setRange(0, 100)
                self._bar.setValue(round(100 * job.progress.fraction))
            if job.progress.stage:
                self.say(self._progress_text(job))
            return
        done = self._done
        if state is State.FAILED:
            self._finish(job.error)
            slicer.util.errorDisplay(job.error)
            return
        self._finish(_("Done."))
        if done is not None:
            self.attempt(done)

    def _progress_text(self, job: Job) -> str:
        stage = STAGES.get(job.progress.stage, job.progress.stage)
        if not job.progress.fraction:
            return f"{stage} ..."
        percent = round(100 * job.progress.fraction)
        text = _("{stage}: {percent} %").format(stage=stage, percent=percent)
        if job.progress.remaining_s:
            left = _("about {seconds} s left").format(seconds=round(job.progress.remaining_s))
            text = f"{text}, {left}"
        return text

    def _finish(self, text: str) -> None:
        self._timer.stop()
        self._job = self._done = None
        self._button.text = self._text
        self._bar.setVisible(False)
        self.say(text)
        self._changed()
