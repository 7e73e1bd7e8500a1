from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tabstep.tables.ranking import auroc


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60))
def test_equals_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    score = np.array([row[0] for row in rows], dtype=float)
    positive = np.array([row[1] for row in rows])
    if positive.all() or not positive.any():
        assert math.isnan(auroc(score, positive))
    else:
        assert math.isclose(auroc(score, positive), roc_auc_score(positive, score), abs_tol=1e-12)
