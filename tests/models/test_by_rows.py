from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tabstep.config.compose import composed
from tabstep.config.parse import parse
from tabstep.entry import config_dir
from tabstep.models.by_rows import fit_to_rows
from tabstep.models.tabm import MEMBERS, TabM
from tabstep.run.prepare import prepare
from tabstep.run.sizes import build_architecture, sizes_by_rows

MANY = max(MEMBERS.values())
SIZES = {"width": 8, "depth": 1, "dropout": 0.0, "num_bins": 4, "embedding_dim": 4}


def test_members_end_where_rows_are_many() -> None:
    for members, below in MEMBERS.items():
        few = fit_to_rows("tabm", {**SIZES, "members": "auto"}, below - 1)
        assert few == ("tabm", {**SIZES, "members": members})
    assert fit_to_rows("tabm", {**SIZES, "members": "auto"}, MANY) == ("mlp", SIZES)
    assert fit_to_rows("tabm", {**SIZES, "members": 3}, MANY) == ("tabm", {**SIZES, "members": 3})


@pytest.mark.parametrize(("rows", "linear"), [(499, True), (500, "half"), (1_999, "half"), (2_000, False)])
def test_half_of_the_members_are_linear_between_few_rows_and_many(rows: int, linear: bool | str) -> None:
    for name in ("pack", "tabm"):
        assert fit_to_rows(name, {**SIZES, "members": 8, "linear": "auto"}, rows)[1]["linear"] == linear
    assert fit_to_rows("mlp", {**SIZES, "linear": "auto"}, rows)[1]["linear"] is (linear is not False)


@pytest.mark.parametrize(("rows", "bins"), [(49_999, 32), (50_000, 96)])
def test_many_rows_fill_more_bins(rows: int, bins: int) -> None:
    for name in ("mlp", "tabm"):
        assert fit_to_rows(name, {**SIZES, "num_bins": "auto"}, rows)[1]["num_bins"] == bins
        assert fit_to_rows(name, SIZES, rows)[1]["num_bins"] == SIZES["num_bins"]


@pytest.mark.parametrize("linear", [True, False])
def test_what_is_set_stays(linear: bool) -> None:
    assert fit_to_rows("mlp", {**SIZES, "linear": linear}, 10) == ("mlp", {**SIZES, "linear": linear})


def test_a_model_built_by_hand_has_the_members_of_a_small_table() -> None:
    model = TabM(2, [], 1, width=8, depth=1)
    assert model(torch.zeros(3, 2), torch.zeros(3, 0, dtype=torch.int32)).shape == (3, 8, 1)


def test_a_large_table_gets_the_plain_perceptron_weight_for_weight(tiny_data: Path, tmp_path: Path) -> None:
    shown = [f"data.path={tiny_data}", "schema.label=label"]
    default, plain = (parse(composed([*shown, *more], [config_dir()])) for more in ([], ["model=mlp"]))
    prepared = prepare(default.data, default.schema, seed=0, cache_dir=tmp_path, show=lambda _: None)
    large, small = (build_architecture(default, prepared.encoder, rows) for rows in (MANY, MANY - 1))
    assert large == build_architecture(plain, prepared.encoder, MANY)
    assert small.name == "tabm"
    assert small.options["members"] == 8
    rows = prepared.tables["train"].num_rows
    assert f"model.members=auto: 32 members, for {rows:,} rows of train" in [*sizes_by_rows(default, prepared)]
    assert not any("members" in line for line in sizes_by_rows(plain, prepared))
