from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tests.baselines.test_linear import make_table

from tabstep.baselines.trees import TreeName, check_installed, fit_trees
from tabstep.errors import UserError
from tabstep.schema import Task


@pytest.mark.parametrize("name", get_args(TreeName))
@pytest.mark.parametrize(("task", "outputs"), [("binary", 1), ("multiclass", 3), ("multilabel", 2)])
def test_logits_rank_held_out_rows(name: TreeName, task: Task, outputs: int) -> None:
    pytest.importorskip(name)
    table = make_table(task, 900)
    parts = [slice(0, 600), slice(600, 750), slice(750, 900)]
    train, val, test = (replace(table, x_num=table.x_num[p], x_cat=table.x_cat[p], y=table.y[p]) for p in parts)
    logits = fit_trees(name, train, val, task, num_outputs=outputs)(test.x_num, test.x_cat)
    assert logits.shape == (150, outputs)
    if task == "multiclass":
        shares = np.exp(logits)
        assert shares.sum(axis=1) == pytest.approx(np.ones(150), abs=1e-5)
        assert roc_auc_score(test.y, shares / shares.sum(axis=1, keepdims=True), multi_class="ovr") > 0.85
    else:
        assert roc_auc_score(test.y.reshape(150, -1), logits, average="macro") > 0.9


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(UserError, match=r"baselines: nosuch is not installed: pip install nosuch, or leave it out"):
        check_installed(["nosuch"])  # type: ignore[list-item]
