from __future__ import annotations

import os
from pathlib import Path

from tests.launch.jobs import EPOCH, REQUEST

from tabstep.emulator.outcome import Outcome


def test_the_table_shows_what_the_service_would(tmp_path: Path) -> None:
    from rich.console import Console

    (tmp_path / "model.tar.gz").write_bytes(bytes(2_500_000))
    outcome = Outcome(
        request=REQUEST,
        status="Failed",
        failure="data.train: is empty",
        exit_codes={"algo-1": 1},
        stages=[("Downloading", 0.5), ("Training", 61.04), ("Interrupted", 0.0)],
        log=["noise", EPOCH, f"[1,mpirank:0]{EPOCH}".replace("0.5000", "0.2500")],
        channels={"train": (tmp_path / "model.tar.gz",)},
        places={"s3://b/out/job-1/output/model.tar.gz": tmp_path / "model.tar.gz"},
    )
    assert outcome.metrics["Train Loss"] == [0.5, 0.25]
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(outcome.table())
    shown = console.export_text()
    assert "Failed (Downloading 0.5 s, Training 61.0 s, Interrupted)" in shown
    assert "s3://b/out/job-1/output/model.tar.gz" in shown
    for text in ("data.train: is empty", "1 file, 2.5 MB", "2 values, the last 0.2500", "no value", "3 of 100"):
        assert text in shown


def test_what_the_service_would_show_badly_is_remarked() -> None:
    outcome = Outcome(request=REQUEST, log=[EPOCH, "10%\r20%", "x" * 300_000])
    assert outcome.remarks() == [
        "metric 'Validation F1 Score': its regex finds nothing in the log",
        "metric 'Validation AUC ROC': its regex finds nothing in the log",
        "the log has carriage returns: the service shows all of such a line's versions in one",
        "the log has a line of more than 262,144 bytes: the service cuts it",
    ]
