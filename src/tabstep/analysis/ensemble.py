"""The runs of a sweep as one model: chosen by their stored predictions of val, averaged, nothing trained again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.table import Table
from rich.text import Text

from tabstep.analysis.ensemble_selection import select
from tabstep.analysis.stored_predictions import METRICS, Candidate, Split, check_fit
from tabstep.analysis.stored_runs import find_runs, read_run, short_names, stored_encoder
from tabstep.artifact.load import load
from tabstep.artifact.prediction_files import write_batches
from tabstep.artifact.predictor import Predictor
from tabstep.artifact.save import save_ensemble, write_json
from tabstep.errors import UserError, nearest
from tabstep.log_lines import number
from tabstep.run_files import ENSEMBLE, MANIFEST, MODEL, REPORT, predictions_file
from tabstep.sweep.ledger import HEADER, read_sweep
from tabstep.system.atomic_write import publishing
from tabstep.system.exits import writing
from tabstep.system.sanitize import printable

ROUNDS: Final = 50
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """What was built: how often each run counts, and scores by ``<split>_<metric>``."""

    objective: str
    counts: Mapping[str, int]
    singles: Mapping[str, float]
    """The objective of every run that could be chosen."""
    best: str
    best_scores: Mapping[str, float]
    scores: Mapping[str, float]

    def weight(self, name: str) -> float:
        """Return the share of a run in the mean."""
        return self.counts[name] / sum(self.counts.values())

    def gain(self, key: str) -> float:
        """Return how much better a score is than that of the best single run: above 0 is better, for a loss too."""
        return _signed(self.scores[key], key) - _signed(self.best_scores[key], key)

    def report(self) -> dict[str, Any]:
        """Return what ``report.json`` holds, in the form of a run's."""
        members = [
            {"run": name, "weight": self.weight(name), self.objective: self.singles[name]} for name in self.counts
        ]
        return {
            **self.scores,
            "objective": self.objective,
            "candidates": len(self.singles),
            "members": members,
            "best_single": {"run": self.best, **self.best_scores},
            "gain": {key: self.gain(key) for key in self.scores},
        }


def build_ensemble(
    directory: Path, out: Path, *, objective: str | None = None, rounds: int = ROUNDS, say: Say = print
) -> Ensemble:
    """Select among the finished runs below a directory and write the mean of the chosen ones like a run.

    ``out`` gets ``model/`` (for ``tabstep.load``), ``predictions/`` and ``report.json``.

    Args:
        objective: a score of val; None takes that of the sweep or, for any other runs, theirs.
        say: takes a line about each run that is left out.

    Raises:
        UserError: there is nothing to select from, or the runs do not fit together.
    """
    _check_out(out)
    candidates = _candidates(directory, say)
    objective = _objective(objective or _of_sweep(directory), candidates, say)
    val = Split(candidates, "val")
    singles = {candidate.name: val.score(val.probs[candidate.name], objective) for candidate in candidates}
    # the best first: of equal ones, the selection takes the first
    names = sorted(singles, key=lambda name: -_signed(singles[name], objective))
    picked = select(
        [val.probs[name] for name in names],
        lambda probs: _signed(val.score(probs, objective), objective),
        rounds=rounds,
    )
    if not picked:
        raise UserError(f"{directory}: {objective} is nan for every run: choose another one with --objective")
    counts = {names[index]: count for index, count in picked.items()}
    # the best single one too, beside which the mean is shown
    chosen = [candidate for candidate in candidates if candidate.name in {names[0], *counts}]
    splits = [val, *_test_split(chosen, say)]
    ensemble = Ensemble(
        objective=objective,
        counts=counts,
        singles=singles,
        best=names[0],
        best_scores=_all_scores(splits, {names[0]: 1}),
        scores=_all_scores(splits, counts),
    )
    _write(out, ensemble, {candidate.name: candidate.run.model for candidate in chosen}, splits)
    return ensemble


def _all_scores(splits: Iterable[Split], counts: Mapping[str, int]) -> dict[str, float]:
    return {key: value for split in splits for key, value in split.scores(split.mean(counts)).items()}


def _signed(score: float, metric: str) -> float:
    return -score if metric.endswith("loss") else score


def _check_out(out: Path) -> None:
    """Refuse to replace what is no ensemble."""
    if (out / MODEL).exists() and not (out / MODEL / ENSEMBLE).exists():
        raise UserError(f"{out}: holds the model of a run: choose another directory with --out")


def _candidates(directory: Path, say: Say) -> list[Candidate]:
    runs = find_runs(directory)
    paths = [path for path in runs if not (path / MODEL / ENSEMBLE).exists()]
    if runs and not paths:
        raise UserError(f"{directory}: its runs are averages already, of folds or other runs: they cannot be members")
    if not paths:
        raise UserError(f"{directory}: holds no finished run: name the directory of a sweep")
    found = []
    for name, path in zip(short_names(paths), paths, strict=True):
        run = read_run(path)
        needed = (run.model / MANIFEST, predictions_file(path, "val"))
        missing = [file.relative_to(path) for file in needed if not file.is_file()]
        if missing:
            say(f"run {name} is left out: it has no {missing[0]}")
            continue
        # the encoder alone: the models of those that are chosen are loaded later
        found.append(Candidate(name=name, run=run, encoder=stored_encoder(run.model)))
    if not found:
        raise UserError(f"{directory}: no run has both a model and predictions of val")
    for candidate in found[1:]:
        check_fit(candidate, found[0])
    return found


def _of_sweep(directory: Path) -> str | None:
    """Return the first objective of a sweep that predictions can be scored by; None where there is none."""
    objectives = read_sweep(directory).header.objectives if (directory / HEADER).is_file() else ()
    return next((name for name in objectives if name in (*METRICS, "val_loss")), None)


def _objective(wanted: str | None, candidates: Sequence[Candidate], say: Say) -> str:
    where = "--objective"
    if wanted is None:
        found = sorted({str(candidate.run.report.get("objective")) for candidate in candidates})
        if len(found) > 1:
            raise UserError(f"the runs have several objectives ({', '.join(found)}): choose one with --objective")
        wanted, where = found[0], "objective of the runs"
    if wanted == "val_loss":
        say("val_loss is not known from predictions: val_log_loss, without weights and smoothing, takes its place")
        wanted = "val_log_loss"
    if wanted not in METRICS:
        raise UserError(f"{where}: no score of stored predictions is called {wanted!r}: {nearest(wanted, METRICS)}")
    return wanted


def _test_split(candidates: Sequence[Candidate], say: Say) -> list[Split]:
    without = [candidate.name for candidate in candidates if not predictions_file(candidate.run.path, "test").is_file()]
    if without:
        say(f"no scores of test: run {without[0]} has no predictions of it")
        return []
    return [Split(candidates, "test")]


def _write(out: Path, ensemble: Ensemble, models: Mapping[str, Path], splits: Sequence[Split]) -> None:
    report = ensemble.report()
    weights = {name: round(ensemble.weight(name), 6) for name in ensemble.counts}
    with writing("--out: cannot be written"):
        out.mkdir(parents=True, exist_ok=True)
        save_ensemble(
            out / MODEL,
            members={models[name]: count for name, count in ensemble.counts.items()},
            config={"ensemble": {"objective": ensemble.objective, "weights": weights}},
            metrics=report,
        )
        predictor = load(out / MODEL)
        for split in splits:
            _write_predictions(predictions_file(out, split.split), split, predictor, ensemble.counts)
        write_json(out / REPORT, report)


def _write_predictions(path: Path, split: Split, predictor: Predictor, counts: Mapping[str, int]) -> None:
    probs = split.mean(counts)
    if split.encoder.task == "binary":
        probs = np.stack([1 - probs, probs], axis=1)
    path.parent.mkdir(exist_ok=True)
    with publishing(path) as temporary:
        write_batches(temporary, [predictor.result(split.rows, probs)])


def ensemble_tables(ensemble: Ensemble) -> list[Table]:
    """Return the members with their weights, and the scores beside those of the best single run."""
    members = Table(title=f"Members, of {len(ensemble.singles)} runs", title_justify="left")
    for header in ("run", "weight", ensemble.objective):
        members.add_column(header, justify="left" if header == "run" else "right")
    for name in ensemble.counts:
        weight = f"{ensemble.weight(name):.0%}"
        members.add_row(Text(printable(name)), weight, number(ensemble.singles[name]))
    scores = Table(title="Scores", title_justify="left")
    for header in ("", f"best run ({printable(ensemble.best)})", "ensemble", "gain"):
        scores.add_column(Text(header), justify="right" if header else "left")
    for key, value in ensemble.scores.items():
        scores.add_row(key, number(ensemble.best_scores[key]), number(value), f"{ensemble.gain(key):+.4f}")
    return [members, scores]


def summary(ensemble: Ensemble) -> str:
    """Say in one line what was gained over the best single run."""
    test = ensemble.objective.replace("val_", "test_")
    keys = [key for key in (ensemble.objective, test) if key in ensemble.scores]
    parts = [f"{key} {number(ensemble.scores[key])} ({ensemble.gain(key):+.4f})" for key in keys]
    count = len(ensemble.counts)
    runs = f"{count} run" + ("s" if count > 1 else "")
    return f"ensemble of {runs} against run {printable(ensemble.best)} alone: {', '.join(parts)}"
