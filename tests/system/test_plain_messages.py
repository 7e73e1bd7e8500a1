from __future__ import annotations

import logging
import warnings

import pytest

from tabstep.system.plain_messages import plain_messages


def test_a_warning_is_one_line_whatever_library_it_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    before = warnings.showwarning
    with plain_messages():
        warnings.simplefilter("always")
        warnings.warn("the disk is nearly full", stacklevel=1)
        assert not logging.getLogger("lightning.pytorch").isEnabledFor(logging.INFO)
    assert capsys.readouterr().err == "warning: the disk is nearly full\n"
    assert warnings.showwarning is before
