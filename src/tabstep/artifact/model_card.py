"""The model card, ``MODEL_CARD.md``: what the model is, what it was trained on, how well it does, how to use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from tabstep.encoding.encoder import Encoder

_SCORES = ("accuracy", "f1", "auroc", "average_precision", "log_loss", "ece")
_SHOWN_NAMES = 40


def model_card(
    encoder: Encoder,
    *,
    architectures: Sequence[str],
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    versions: Mapping[str, str],
) -> str:
    """Return the card as Markdown with the YAML header that model hubs read (Mitchell et al. 2019, arXiv:1810.03993).

    Args:
        architectures: the name of the model, or of each member of an ensemble.
        metrics: the report's scores; a card without any says so.
    """
    label = ", ".join(encoder.schema.label)
    parts = [
        f"---\n{yaml.safe_dump(_header(encoder), sort_keys=False)}---",
        f"# {encoder.task.capitalize()} classifier of {_code(label)}",
        f"{_kind(architectures)}, trained with tabstep {versions['tabstep']} and PyTorch {versions['torch']}.",
        f"## What it predicts\n\n{_prediction(encoder, label)}",
        f"## Columns\n\n{_columns(encoder)}",
        f"## Scores\n\n{_scores(metrics)}",
        f"## Training\n\n{_training(config, metrics)}",
        _USE,
        _LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _header(encoder: Encoder) -> dict[str, Any]:
    return {
        "library_name": "tabstep",
        "pipeline_tag": "tabular-classification",
        "tags": ["tabular", "tabstep", encoder.task],
    }


def _kind(architectures: Sequence[str]) -> str:
    if len(architectures) == 1:
        return f"A model of kind {_code(architectures[0])}"
    return f"The weighted mean of {len(architectures)} models ({', '.join(sorted(set(architectures)))})"


def _prediction(encoder: Encoder, label: str) -> str:
    classes = _names(str(value) for value in encoder.classes)
    if encoder.task == "multilabel":
        return f"For each of the labels {classes}, the probability that it holds."
    ordered = (
        f"the positive class is {_code(str(encoder.classes[-1]))}" if encoder.task == "binary" else "in this order"
    )
    return f"A probability for each value of {_code(label)}: {classes} ({ordered})."


def _columns(encoder: Encoder) -> str:
    schema = encoder.schema
    rows = [("number", schema.numeric), ("category", schema.categorical)]
    lines = [f"- {what}: {_names(names)}" for what, names in rows if names]
    return "\n".join(lines) + "\n\nMissing values and categories that training never showed are allowed in all of them."


def _scores(metrics: Mapping[str, Any]) -> str:
    parts: list[tuple[str, Mapping[str, Any]]] = [("this model", metrics), *metrics.get("baselines", {}).items()]
    rows = [
        f"| {split} | {name} | {' | '.join(_number(scores.get(f'{split}_{score}')) for score in _SCORES)} |"
        for split in ("val", "test")
        for name, scores in parts
        if f"{split}_accuracy" in scores
    ]
    if not rows:
        return "None were kept with the model."
    head = f"| split | of | {' | '.join(_SCORES)} |\n|{'---|' * (2 + len(_SCORES))}"
    return "\n".join([head, *rows])


def _training(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    lines = [
        f"- {text}: {_code(str(value))}"
        for text, value in (
            ("folds, of whose scores those of val are the mean", len(metrics.get("folds", [])) or None),
            ("best epoch", metrics.get("best_epoch")),
            ("epochs", metrics.get("epochs")),
            ("chosen by", metrics.get("monitor", metrics.get("objective"))),
            ("temperature of the probabilities", metrics.get("temperature")),
            ("decision", (metrics.get("decision") or {}).get("goal")),
            ("seed", config.get("seed")),
        )
        if value is not None
    ]
    return "\n".join([*lines, "- everything else: `config.yaml`, `metrics.json`, `versions.json` beside this file"])


def _names(names: Iterable[str]) -> str:
    """Return names as code, the first ones where there are very many."""
    found = [_code(name) for name in names]
    more = f" and {len(found) - _SHOWN_NAMES} more" if len(found) > _SHOWN_NAMES else ""
    return ", ".join(found[:_SHOWN_NAMES]) + more


def _code(text: str) -> str:
    """Return a text of others as Markdown code: on one line, and no backtick of it ends it early."""
    flat = " ".join(text.split()) or " "
    fence = "`"
    while fence in flat:
        fence += "`"
    space = " " if flat.startswith("`") or flat.endswith("`") else ""
    return f"{fence}{space}{flat}{space}{fence}"


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) and value == value else ""


_USE = """## How to use it

```text
tabstep predict MODEL_DIRECTORY rows.parquet --out scored.parquet
```

In Python: `tabstep.load("MODEL_DIRECTORY").predict(rows)`. Loading checks every file against `manifest.json`, and the
rows of `golden.parquet` against what they gave where the model was trained."""

_LIMITS = """## Limits

It has learned from one table and says nothing of rows that are unlike it. Whether it is right for a group of people,
and fair to it, was not examined: look at the scores by group before it decides anything about a person."""
