from __future__ import annotations

import numpy as np
import pytest

from tabstep.checks.leaks import THRESHOLD, leak_scores
from tabstep.checks.profile import Sample
from tabstep.tables.ranking import auroc

RNG = np.random.default_rng(0)
Y = RNG.random(4000) < 0.2


def scores(*columns: np.ndarray, labels: np.ndarray = Y) -> list[float]:
    codes = np.zeros((len(labels), 0), dtype=np.uint64)
    sample = Sample(numeric=np.stack(columns, axis=1), categorical=codes, labels=[labels.astype(str)])
    return leak_scores(sample)[0].tolist()


def codes_score(codes: np.ndarray, labels: np.ndarray = Y) -> float:
    sample = Sample(
        numeric=np.zeros((len(labels), 0)), categorical=codes.astype(np.uint64)[:, None], labels=[labels.astype(str)]
    )
    return float(leak_scores(sample)[1][0])


def test_numbers_that_give_the_label_away() -> None:
    noise = RNG.normal(size=4000)
    shift = noise + 9.0 * Y
    only_where_known = np.where(Y, noise, np.nan)
    outside = np.where(Y, np.sign(noise) * 9.0, 0.0) + 0.1 * noise  # not in order, but by groups
    found = scores(noise, shift, -shift, only_where_known, outside)
    assert found[0] < 0.6
    assert min(found[1:]) > THRESHOLD


def test_an_honest_column_scores_its_auroc() -> None:
    honest = RNG.normal(size=4000) + 1.5 * Y
    assert scores(honest)[0] == pytest.approx(auroc(honest, Y), abs=0.02)
    assert scores(honest)[0] < 0.9


def test_categories_that_give_the_label_away() -> None:
    assert codes_score(np.where(Y, RNG.integers(0, 5, 4000), RNG.integers(5, 50, 4000))) > THRESHOLD
    assert codes_score(RNG.integers(0, 50, 4000)) < 0.6
    assert codes_score(np.arange(4000)) < 0.6  # all distinct: nothing to learn from the other half


def test_every_class_must_be_told_apart() -> None:
    three = RNG.integers(0, 3, 4000)
    assert codes_score(three, three) > THRESHOLD
    assert codes_score((three == 0).astype(int), three) < 0.9
    assert scores(three + 0.01 * RNG.random(4000), labels=three)[0] > THRESHOLD


def test_too_few_rows_of_a_class_say_nothing() -> None:
    few = np.arange(4000) < 10
    assert np.isnan(codes_score(few, few))
    assert np.isnan(codes_score(np.zeros(40), np.zeros(40)))


def test_infinities_and_empty_columns_do_no_harm() -> None:
    infinite = np.where(Y, np.inf, -np.inf)
    assert scores(infinite, np.full(4000, np.nan))[0] > THRESHOLD
