"""Comparing agents and policies on the same episodes: runner, statistics, reports, videos."""

from grasp_agent.evaluation.policies import REFERENCES
from grasp_agent.evaluation.results import EntrantSummary, EpisodeResult, Results
from grasp_agent.evaluation.runner import evaluate
from grasp_agent.evaluation.sb3 import KNOWN_ALGORITHMS, load_policy
from grasp_agent.evaluation.statistics import (
    Interval,
    bootstrap_mean,
    mcnemar_exact,
    paired_difference,
    wilson_interval,
)
from grasp_agent.evaluation.tables import plot_success, results_table
from grasp_agent.evaluation.video import record_video

__all__ = [
    "KNOWN_ALGORITHMS",
    "REFERENCES",
    "EntrantSummary",
    "EpisodeResult",
    "Interval",
    "Results",
    "bootstrap_mean",
    "evaluate",
    "load_policy",
    "mcnemar_exact",
    "paired_difference",
    "plot_success",
    "record_video",
    "results_table",
    "wilson_interval",
]
