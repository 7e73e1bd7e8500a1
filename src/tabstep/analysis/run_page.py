"""The page of a run: what is in its directory, as sections; a section that fails leaves the others as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tabstep.analysis.sections.column_tables import column_section, slice_section, worst_row_section
from tabstep.analysis.sections.confusion_tables import confusion_section
from tabstep.analysis.sections.curve_pictures import curve_section
from tabstep.analysis.sections.facts import RunFacts, number_text
from tabstep.analysis.sections.provenance_tables import check_section, training_section
from tabstep.analysis.sections.score_tables import epoch_section, fold_section, score_section
from tabstep.analysis.sections.threshold_slider import threshold_section
from tabstep.log_lines import duration
from tabstep.page.document import (
    Section,
    document,
    paragraph,
    text,
)
from tabstep.page.pictures import can_draw

_DRAW_HINT: Final = "Pictures need the package matplotlib: pip install 'tabstep[report]', then tabstep report RUN."


def run_page(facts: RunFacts) -> str:
    """Return the page as HTML; a section that fails is a line in the last one."""
    makers: dict[str, Callable[[RunFacts], Iterator[str]]] = {
        "Scores": score_section,
        "Folds": fold_section,
        "Epochs": epoch_section,
        "Curves": curve_section,
        "Confusion": confusion_section,
        "Thresholds": threshold_section,
        "Columns": column_section,
        "Worst slices": slice_section,
        "Worst rows": worst_row_section,
        "What was trained": training_section,
        "Data checks": check_section,
    }
    problems: list[str] = [*facts.notes, *facts.analysis.get("problems", [])]
    sections = []
    for title, make in makers.items():
        try:
            sections.append(Section(title=title, parts=list(make(facts))))
        except Exception as error:  # noqa: BLE001 - the other sections of the page are worth having
            problems.append(f"{title}: {type(error).__name__}: {' '.join(str(error).split())}")
    if not can_draw():
        problems.append(_DRAW_HINT)
    sections.append(Section(title="What failed", parts=list(_failures(facts, problems))))
    return document(f"Run {facts.run.path.resolve().name}", _lead(facts), sections)


def _lead(facts: RunFacts) -> list[str]:
    report = facts.run.report
    objective = str(report.get("objective", "val_auroc"))
    shown = {objective: report.get(objective), "test_auroc": report.get("test_auroc")}
    shown |= {"test_log_loss": report.get("test_log_loss"), "epochs": report.get("epochs")}
    shown |= {"exported epoch": report.get("best_epoch")}
    boxes = [
        f"<div>{text(name.replace('_', ' '))}<b>{text(number_text(value))}</b></div>"
        for name, value in shown.items()
        if value is not None
    ]
    took = f", {duration(report['seconds'])} in all" if "seconds" in report else ""
    reason = f"Ended: {report['stop_reason']}{took}." if "stop_reason" in report else "This run is not finished."
    return [f'<div class="facts">{"".join(boxes)}</div>', paragraph(reason, kind="muted")]


def _failures(facts: RunFacts, problems: Sequence[str]) -> Iterator[str]:
    report = facts.run.report
    lines = [*problems]
    if report.get("skipped_steps"):
        lines.append(f"{report['skipped_steps']} steps were skipped: their gradients were not finite.")
    lines += [f"{key} is not known" for key, value in report.items() if value is None]
    bad = [each for each in facts.analysis.get("checks") or [] if each["severity"] != "ok"]
    lines += [f"{each['severity']} of the data checks: {each['message']}" for each in bad]
    if not facts.analysis:
        lines.append("The run has no analysis of its columns: its tables are not where they were.")
    yield from (paragraph(line, kind="warn") for line in lines)
    if not lines:
        yield paragraph("Nothing.", kind="good")
