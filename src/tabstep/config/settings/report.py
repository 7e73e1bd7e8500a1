"""Keys of the group ``report``: the page that a run ends with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tabstep.option_types import Count, Doc, Positive


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """The page that a run ends with, and what it may cost."""

    page: Annotated[bool, Doc("writes report.html at the end of the run")] = True
    trials: Annotated[
        bool, Doc("writes it for each trial of a sweep, or fold, too; tabstep report makes one later")
    ] = False
    rows: Annotated[Count, Doc("rows of val that importance and dependence are computed on, at most")] = 1000
    seconds: Annotated[Positive, Doc("time for the page; what is left by then is left out, and it says so")] = 60
