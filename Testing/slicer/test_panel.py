"""What the panels share: the application stays awake while work is done."""

import time

import pytest
import qt
from XraySynthSlicer.jobs import Progress, State
from XraySynthSlicer.panel import JobPanel, in_background

MODULES = [f"XraySynth{name}" for name in ("CT", "DRR", "Dataset", "Sampler", "Landmarks")]


class AJob:
    """A job that does what a test says."""

    def __init__(self):
        self.state, self.progress, self.messages, self.error = State.RUNNING, Progress(), [], ""

    def poll(self):
        return self.state

    def cancel(self):
        self.state = State.CANCELLED


@pytest.fixture
def panel(scene):
    widgets = qt.QPushButton("Go"), qt.QProgressBar(), qt.QLabel()
    panel = JobPanel(*widgets, start=lambda: None)
    panel.button, panel.bar, panel.status = widgets
    return panel


def test_the_application_stays_awake():
    beats, timer = [], qt.QTimer()
    timer.timeout.connect(lambda: beats.append(time.monotonic()))
    timer.start(10)
    assert in_background(lambda: time.sleep(0.5) or "made") == "made"
    timer.stop()
    assert len(beats) > 10
    with pytest.raises(ZeroDivisionError):
        in_background(lambda: 1 / 0)


def test_looking_after_a_job_takes_no_time(panel):
    panel.run(AJob(), lambda: None)
    times = []
    for _ in range(5):
        started = time.monotonic()
        panel._poll()
        times.append(time.monotonic() - started)
    panel.cancel()
    assert min(times) < 0.05  # the others may have waited for the processor


def test_progress_is_told_in_words(panel):
    job = AJob()
    panel.run(job, lambda: None)
    job.progress = Progress("generate", 0.0)
    panel._poll()
    assert panel.status.text == "Making CTs ..." and panel.bar.maximum == 0  # busy
    job.progress = Progress("generate", 0.25, 12.3)
    panel._poll()
    assert panel.status.text == "Making CTs: 25 %, about 12 s left"
    assert (panel.bar.value, panel.bar.maximum) == (25, 100)
    panel.cancel()
    assert panel.status.text == "Cancelled." and panel.button.text == "Go"


def test_an_automatic_job_makes_way_for_what_is_asked_for(panel):
    automatic, asked = AJob(), AJob()
    panel._start = lambda: panel.run(asked, lambda: None)
    panel.run(automatic, lambda: None, automatic=True)
    assert panel.automatic and panel.button.text == "Go"
    panel.button.click()
    assert automatic.state is State.CANCELLED and not panel.automatic
    assert panel.running and panel.button.text == "Cancel"
    panel.button.click()
    assert asked.state is State.CANCELLED and panel.button.text == "Go"


def test_a_result_that_cannot_be_shown_is_said(panel):
    def show():
        raise ValueError("The list is gone.")

    job = AJob()
    panel.run(job, show)
    job.state = State.DONE
    with pytest.raises(ValueError, match="gone"):  # shown to the user, but not while testing
        panel._poll()
    assert panel.status.text == "The list is gone." and not panel.running


@pytest.mark.parametrize("module", MODULES)
def test_a_loaded_scene_keeps_every_choice(open_panel, scene, tmp_path, module):
    panel = open_panel(module)
    bound = [one for one in vars(panel.ui).values() if one.property("SlicerParameterName")]
    combos = [one for one in bound if type(one) is qt.QComboBox]
    boxes = [one for one in bound if type(one) is qt.QCheckBox]
    for combo in combos:
        combo.setCurrentIndex(combo.count - 1)
    for box in boxes:
        box.checked = not box.checked
    panel.settle()
    chosen = [*(one.currentIndex for one in combos), *(one.checked for one in boxes)]
    assert scene.WriteToMRB(str(tmp_path / "scene.mrb"))
    scene.Clear(False)
    panel.settle()
    assert scene.ReadFromMRB(str(tmp_path / "scene.mrb"), True)
    panel.settle()
    assert chosen == [*(one.currentIndex for one in combos), *(one.checked for one in boxes)]
    parameters, name = panel.widget._parameters, boxes[0].property("SlicerParameterName")
    before = getattr(parameters, name)
    panel.widget.disconnectParameters()
    boxes[0].checked = not boxes[0].checked
    assert getattr(parameters, name) == before
