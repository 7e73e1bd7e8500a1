from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.config.settings import Settings
from tabstep.entry import config_dir
from tabstep.models import tabm
from tabstep.run.prepare import prepare
from tabstep.run.prepared import Prepared, limited
from tabstep.run.sizes import (
    batch_size_of,
    build_architecture,
    optimizer_options,
    patience_of,
    rows_of_step,
    sizes_by_rows,
)
from tabstep.training import datamodule


def prepared_with(data: Path, cache_dir: Path, overrides: Sequence[str] = ()) -> tuple[Settings, Prepared]:
    settings = parse(composed([f"data.path={data}", "schema.label=label", *overrides], [config_dir()]))
    return settings, prepare(settings.data, settings.schema, seed=0, cache_dir=cache_dir, show=lambda _: None)


def test_a_run_on_the_first_rows_is_one_of_the_whole_tables_network(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sizes are those of all rows of train: what is tried on a few batches is what is trained then."""
    settings, prepared = prepared_with(tiny_data, tmp_path)
    rows = prepared.tables["train"].num_rows
    monkeypatch.setattr(tabm, "MEMBERS", {32: rows - 1, 8: rows})
    monkeypatch.setattr("tabstep.models.by_rows.MEMBERS", {32: rows - 1, 8: rows})
    monkeypatch.setattr(datamodule, "BATCH_SIZES", {16: rows, 64: rows + 1})
    cut = limited(prepared, {"train": 20, "val": None, "test": None})
    assert cut.tables["train"].num_rows == cut.train_rows == 20
    assert cut.whole_rows == rows
    assert batch_size_of(settings, cut) == batch_size_of(settings, prepared) == 64
    architecture = build_architecture(settings, cut.encoder, cut.whole_rows)
    assert (architecture.name, architecture.options.get("members")) == ("mlp", None)
    assert [*sizes_by_rows(settings, cut)] == [
        f"model.members=auto: one perceptron, as model=mlp, for {rows} rows of train",
        f"data.batch_size=auto: 64 rows a step, for {rows} rows of train",
        f"optimizer.hidden_weight_decay=auto: 0.0001, for {rows} rows of train",
    ]


@pytest.mark.parametrize(("model", "rows"), [("tabm", 64 * 3), ("mlp", 64)])
def test_each_member_has_its_own_rows_in_the_products_of_a_step(
    tiny_data: Path, tmp_path: Path, model: str, rows: int
) -> None:
    """So a small batch of many members is large enough for bfloat16 to pay."""
    members = ["model.members=3"] if model == "tabm" else []
    settings, prepared = prepared_with(tiny_data, tmp_path, ["data.batch_size=64", f"model={model}", *members])
    assert rows_of_step(settings, prepared) == rows


@pytest.mark.parametrize(
    ("rows", "overrides", "epochs"),
    [
        (26_000, [], 10),
        (60_000, [], 9),
        (100_000, [], 6),
        (1_000_000, [], 3),
        (1_000_000, ["trainer.accumulate_grad_batches=8"], 9),
        (1_000_000, ["data.batch_size=16384"], 10),
        (1_000_000, ["callbacks.early_stopping.patience=7"], 7),
        (1_000_000, ["callbacks.early_stopping.patience=null", "trainer.max_epochs=2"], None),
    ],
)
def test_a_run_waits_for_progress_by_steps(
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    overrides: list[str],
    epochs: int | None,
) -> None:
    settings, prepared = prepared_with(tiny_data, tmp_path, overrides)
    monkeypatch.setattr(type(prepared), "whole_rows", rows)
    assert patience_of(settings, prepared) == epochs
    said = [line for line in sizes_by_rows(settings, prepared) if "patience" in line]
    automatic = not any("patience" in override for override in overrides) and epochs != 10
    line = f"callbacks.early_stopping.patience=auto: {epochs} epochs, for {rows:,} rows of train"
    assert said == ([line] if automatic else [])


@pytest.mark.parametrize(
    ("rows", "overrides", "decay"),
    [
        (9_999, [], 1e-4),
        (10_000, [], 0.3),
        (1_000_000, [], pytest.approx(50 / 977)),
        (1_000_000, ["optimizer.hidden_lr=0.01"], pytest.approx(25 / 977)),
        (1_000_000, ["trainer.accumulate_grad_batches=2"], pytest.approx(50 / 489)),
        (10_000, ["optimizer.hidden_weight_decay=0.01"], 0.01),
        (10_000, ["optimizer=adamw"], None),
        (10_000, ["optimizer=adamw", "optimizer.name=torch.optim:NAdam"], None),
    ],
)
def test_hidden_matrices_decay_where_rows_are_many(
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
    overrides: list[str],
    decay: float | None,
) -> None:
    settings, prepared = prepared_with(tiny_data, tmp_path, overrides)
    monkeypatch.setattr(type(prepared), "whole_rows", rows)
    assert optimizer_options(settings, prepared).get("hidden_weight_decay") == decay
    said = [line for line in sizes_by_rows(settings, prepared) if "decay" in line]
    found = {9_999: "0.0001", 10_000: "0.3", 1_000_000: "0.051"}[rows]
    line = f"optimizer.hidden_weight_decay=auto: {found}, for {rows:,} rows of train"
    assert overrides or said == [line]
    assert len(said) == (decay is not None and "decay" not in "".join(overrides))
