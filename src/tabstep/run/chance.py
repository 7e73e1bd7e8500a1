"""How far the scores of a run may be off by chance, where logistic regression seems to be better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tabstep.analysis.sampled_rows import read_predictions
from tabstep.analysis.weighted_scores import Z, intervals
from tabstep.baselines.scores import losses_to_linear
from tabstep.encoding.encoder import Encoder
from tabstep.run_files import predictions_file

_ROWS: Final = 200_000
_MANY: Final = 1_000
_SHARE_OF_MANY: Final = 0.25
"""Standard error of the difference, over that of one's own score: both models score the same rows. On 4,000 rows of
three tables that they rank alike it was .14 to .39, on the 20 of a table that they do not .75 to .92."""


def standard_errors(report: Mapping[str, Any], encoder: Encoder, output: Path) -> dict[str, float]:
    """Return about the standard errors of what a run's scores are worse than logistic regression's by, by their keys.

    Half of the width of the bootstrap interval that the page shows too, from the predictions that are stored, of
    ``_MANY`` rows a share of it; of ``loss``, that of the log-loss. A score of another package has none.
    """
    worse = losses_to_linear(report, report["baselines"], report["objective"])
    found: dict[str, float] = {}
    for split in dict.fromkeys(key.partition("_")[0] for key in worse):
        predicted = read_predictions(predictions_file(output, split), encoder, _ROWS)
        spans = intervals(predicted.probs, predicted.y, encoder.task)
        # of a table of which a sample was read, as intervals does it
        shrink = math.sqrt(len(predicted.y) / predicted.total)
        share = _SHARE_OF_MANY if predicted.total >= _MANY else 1.0
        for name, span in spans.items():
            error = (span.high - span.low) / (2.0 * Z) * shrink * share
            keys = (f"{split}_{name}", f"{split}_loss") if name == "log_loss" else (f"{split}_{name}",)
            found |= {key: error for key in keys if key in worse and math.isfinite(error)}
    return found
