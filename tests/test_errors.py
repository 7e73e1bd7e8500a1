from __future__ import annotations

import pickle

import pytest

from tabstep.errors import ProblemsError, RetryError, StoppedError, UserError


@pytest.mark.parametrize(
    "error", [UserError("a: no"), ProblemsError(["a: no", "b: no"]), RetryError("full"), StoppedError("saved", 15)]
)
def test_they_come_back_whole_from_another_process(error: Exception) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))
