"""The file names of a run and of its model directory, each written down once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

REPORT: Final = "report.json"
PREDICTIONS: Final = "predictions"
HISTORY: Final = "metrics.csv"
PAGE: Final = "report.html"
ANALYSIS: Final = "analysis.json"
"""What the page says of the columns, the slices and the rows."""
CHECKPOINTS: Final = "checkpoints"
MODEL: Final = "model"
TENSORBOARD: Final = "tensorboard"
FOLDS: Final = "folds"
"""Of a cross-validation: one run a fold, in a directory of its number."""
MLFLOW: Final = "mlflow.json"
"""Which run of MLflow a run is, or a sweep; a run's lies with its checkpoints."""
WANDB: Final = "wandb"
BF16: Final = "bf16"
"""With the checkpoints: how much bfloat16 gained when the run began, where that was measured."""
RANKS: Final = "ranks"
RAY: Final = "ray"
"""What Ray Train notes of a run on a cluster, and the lines that it says."""
DONE: Final = "DONE"
"""Written last: a run that has it has all the others."""
HYDRA: Final = ".hydra"

# In the model directory.
MANIFEST: Final = "manifest.json"
WEIGHTS: Final = "model.safetensors"
CONFIG: Final = "config.yaml"
METRICS: Final = "metrics.json"
ONNX: Final = "model.onnx"
ARCHITECTURE: Final = "model.json"
ENCODER: Final = "encoder.json"
SCHEMA: Final = "schema.json"
VERSIONS: Final = "versions.json"
GOLDEN: Final = "golden.parquet"
"""Rows with the probabilities that the model gave them when it was saved."""
CALIBRATION: Final = "calibration.json"
"""Absent from what versions left that fitted no temperature."""
ENSEMBLE: Final = "ensemble.json"
MEMBERS: Final = "members"
"""Of an average: a directory a model."""
CARD: Final = "MODEL_CARD.md"


def model_hint(directory: Path) -> str:
    """Return the remedy for a directory that is no model's, or nothing: that of a run has the model's below."""
    below = directory / MODEL
    return f"did you mean {str(below)!r}?" if (below / MANIFEST).is_file() else ""


def predictions_file(directory: Path, split: str) -> Path:
    """Return where the run in ``directory`` has its predictions of a split.

    >>> predictions_file(Path("logs/first"), "val").as_posix()
    'logs/first/predictions/val.parquet'
    """
    return directory / PREDICTIONS / f"{split}.parquet"
