"""X-rays of people held out, by DRR and by samplers, at the same views and with the same exposures.

Lives here: making the images and reading them with the detector. What is measured on them is
`xray_sampler`'s and `xray_realism`'s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from XraySynthLib.data import Sample
from XraySynthLib.data.formats.prediction_files import Prediction
from XraySynthLib.data.sets import SplitOverlapError, open_set, people_behind
from XraySynthLib.detection.model import Detector
from XraySynthLib.diffusion.model import LEAD, STEPS, Sampler, load_sampler
from XraySynthLib.evaluation import Comparison, bootstrap_over_subjects, compare
from XraySynthLib.workflows import export, sample
from XraySynthLib.workflows.sample_images import TRIES, Anatomy, Imagined, make_samples
from XraySynthLib.workflows.subjects import find_subjects

SEED, BATCH = 601, 16
Row = Sequence[object]
KVP = (70, 80, 90, 100, 110)
CLEAN: Mapping[str, Any] = {
    "primary_deg": (-50.0, 50.0),
    "secondary_deg": (-40.0, 40.0),
    "scatter": (0.0, 0.0),
    "photons_per_mm2": (1e9, 1e9),
    "blur_mm": (0.0, 0.0),
    "collimated_share": 0.0,
}
"""As train_xray.sh's free views: without what an acquisition adds, which would hide differences."""


@dataclass(frozen=True)
class Settings:
    """How a sampler is used; see `SampleRecipe`."""

    steps: int = STEPS
    guidance: float | None = None
    lead: float = LEAD
    tries: int = TRIES


SHIPPED = Settings()


class HeldOut:
    """Images of the people held out.

    Args:
        folder: Where DRRs are kept.
        people: Folder of the people.
        models: Condition -> folder of its sampler.
        views: Images of each person.

    Raises:
        SplitOverlapError: If a sampler knows one of them.
    """

    def __init__(self, folder: Path, people: Path, models: Mapping[str, Path], views: int) -> None:
        self.folder, self.views, self.models = folder, views, models
        self.people, self.subjects = people, {one.name: one for one in find_subjects(people)}
        self.samplers: dict[str, Sampler] = {
            condition: load_sampler(model) for condition, model in models.items()
        }
        self.side_px = min(one.config.network.side_px for one in self.samplers.values())
        for sampler in self.samplers.values():
            refuse_known(self.subjects, sampler.config.people)
        self._drrs: dict[bool, list[Sample]] = {}
        self._shipped: dict[tuple[str, bool], list[Sample]] = {}

    @cached_property
    def anatomies(self) -> dict[str, Anatomy]:
        """The people's bones and landmarks, by name."""
        bones = {}
        for name, subject in self.subjects.items():
            volume, landmarks = subject.read()
            bones[name] = Anatomy(volume.labels, volume.ras_from_ijk, landmarks)
        return bones

    def drrs(self, clean: bool = False) -> list[Sample]:
        """The people's DRRs, as large as the samples.

        Args:
            clean: As `CLEAN`, twice as large: to be shrunk as training images are.
        """
        if clean not in self._drrs:
            output = self.folder / ("drr-clean" if clean else "drr")
            side_px = 2 * self.side_px if clean else self.side_px
            export.run(
                export.ExportConfig(
                    subjects=self.people,
                    output=output,
                    views=self.views,
                    format="webdataset",
                    quantity="line-integral",
                    shape_px=(side_px, side_px),
                    kvp=KVP,
                    masks=False,
                    split=(0, 0, 1),
                    seed=SEED,
                    progress="none",
                    **(CLEAN if clean else {}),
                )
            )
            self._drrs[clean] = list(open_set(output))
            behind = set().union(*(people_behind(one.provenance) for one in self._drrs[clean]))
            for sampler in self.samplers.values():
                refuse_known(behind, sampler.config.people)
        return self._drrs[clean]

    def samples(
        self,
        condition: str,
        settings: Settings = SHIPPED,
        clean: bool = False,
        views: int | None = None,
    ) -> list[Sample]:
        """Samples of the people's bones ("anatomy") or of nobody ("view"), named after the DRRs.

        Args:
            condition: The sampler's.
            settings: How it is used.
            clean: As `CLEAN`.
            views: The first so many of each person; by default all.
        """
        if settings == SHIPPED and views is None and (condition, clean) in self._shipped:
            return self._shipped[condition, clean]
        made: list[Sample] = []
        for name in self.subjects:
            made += self.samples_of(name, condition, settings, clean, views)
        if settings == SHIPPED and views is None:
            self._shipped[condition, clean] = made
        return made

    def samples_of(
        self,
        name: str,
        condition: str,
        settings: Settings = SHIPPED,
        clean: bool = False,
        views: int | None = None,
        batch: int = BATCH,
    ) -> list[Sample]:
        """The samples of one person, made so many at a time; see `samples`."""
        drrs = [one for one in self.drrs(clean) if one.provenance.subject == name][:views]
        first = drrs[0].provenance.seed[1]
        sampler = self.samplers[condition]
        person = Imagined(name, 0, sampler.config.people, sampler.sha256)
        anatomy = self.anatomies[name] if condition == "anatomy" else None
        recipe = self._recipe(condition, settings, clean)
        items = range(first, first + len(drrs))
        made = list(make_samples(items, recipe, sampler, batch, person, anatomy))
        if anatomy is not None:
            for one, drr in zip(made, drrs, strict=True):
                ways = [each.xray.view.ras_from_camera for each in (one, drr)]
                assert np.allclose(*ways), f"{one.key} is seen from elsewhere than its DRR"
        return made

    def _recipe(self, condition: str, settings: Settings, clean: bool) -> sample.SampleRecipe:
        """What the verb would do by these settings."""
        config = sample.SampleConfig(
            output=self.folder / "nowhere",
            count=1,
            condition=condition,  # type: ignore[arg-type]
            model=self.models[condition],
            quantity="line-integral",
            kvp=KVP,
            seed=SEED,
            steps=settings.steps,
            guidance=settings.guidance,
            **(CLEAN if clean else {}),
        )
        plan, _ = sample.plan_set(config)
        return replace(plan.recipe, lead=settings.lead, tries=settings.tries)


def interval(
    statistic: Callable[[NDArray], float], subjects: NDArray
) -> tuple[float, float, float]:
    """A value and its interval over subjects; `statistic` takes the numbers of images."""
    found = bootstrap_over_subjects(lambda rows: np.array([statistic(rows)]), subjects)
    return float(found.value[0]), float(found.low[0]), float(found.high[0])


def refuse_known(people: Sequence[str] | set[str], known: Sequence[str]) -> None:
    """See that nobody is tested on whom a model was trained on.

    Raises:
        SplitOverlapError: Naming who is.
    """
    if both := sorted(set(people) & set(known)):
        raise SplitOverlapError(f"{both[0]} is behind the training of a model that is tested.")


def refused_share(samples: Sequence[Sample]) -> float:
    """Share of what a sampler made that was refused: made again, or for want of tries kept."""
    made_by = [one.provenance.config["sampler"] for one in samples]
    again = sum(one["refused"] for one in made_by)
    kept = sum(one["complaint"] is not None for one in made_by)
    return (again + kept) / (len(samples) + again)


def read_by(detector: Detector, samples: Sequence[Sample]) -> Comparison:
    """What the detector finds in samples, beside their own landmarks."""
    found = detector.detect_all(one.xray for one in samples)
    predictions = {
        one.key: Prediction(one.key, 0, one.xray.values.shape, landmarks)
        for one, landmarks in zip(samples, found, strict=True)
    }
    return compare(samples, predictions)
