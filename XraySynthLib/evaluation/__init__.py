"""How good a detector is: measures on arrays, intervals over subjects, tables and figures.

What is measured is a `Comparison`; measures are pure functions of it or of arrays. Reading sets and
writing the report's page are the verb's (`workflows.evaluate`).
"""

from XraySynthLib.evaluation.bootstrap import Interval, bootstrap_over_subjects
from XraySynthLib.evaluation.comparison import Comparison, Plane
from XraySynthLib.evaluation.matching import EvaluationError, compare, read_predictions
from XraySynthLib.evaluation.measures import all_measures, mean_error
from XraySynthLib.evaluation.overlap import refuse_trained_on
from XraySynthLib.evaluation.paired import Difference, paired_difference

__all__ = [
    "Comparison",
    "Difference",
    "EvaluationError",
    "Interval",
    "Plane",
    "all_measures",
    "bootstrap_over_subjects",
    "compare",
    "mean_error",
    "paired_difference",
    "read_predictions",
    "refuse_trained_on",
]
