from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy.sparse import hstack
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from tabstep.checks import check_splits
from tabstep.encoding.encoded_table import encode_table
from tabstep.encoding.encoder import Encoder, EncoderOptions
from tabstep.errors import UserError
from tabstep.schema import Schema, Split
from tabstep.tables.source import ParquetSource, open_source

OPTIONS = EncoderOptions(scaling="quantile", max_categories=100, min_frequency=2)


def fit(table: pa.Table, directory: Path, schema: Schema, **options: Any) -> Encoder:
    path = directory / "train.parquet"
    pq.write_table(table, path)
    return Encoder.fit(open_source(str(path), split="train"), schema, **{"options": OPTIONS, **options})


SCHEMA = Schema(id="row_id", label=("label",), numeric=("age", "income", "joined"), categorical=("city", "member"))


@pytest.fixture(scope="module")
def encoder(tiny_table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return fit(tiny_table, tmp_path_factory.mktemp("encoder"), SCHEMA)


def test_shapes_and_names(encoder: Encoder, tiny_table: pa.Table) -> None:
    (batch,) = tiny_table.to_batches()
    x_num, x_cat = encoder.transform(batch)
    assert (x_num.shape, x_cat.shape) == ((200, 7), (200, 4))
    assert (str(x_num.dtype), str(x_cat.dtype)) == ("float32", "int32")
    assert x_num.flags.c_contiguous
    assert x_cat.flags.c_contiguous
    parts = ("joined: sine of day of year", "joined: cosine of day of year", "joined: year")
    assert encoder.input_names == ("age", "income", "joined", "age is missing", *parts)
    assert encoder.code_names == ("city", "member", "joined: weekday", "joined: month")
    assert (encoder.num_numeric, encoder.num_outputs, encoder.num_classes) == (7, 1, 2)
    assert (encoder.task, encoder.classes, encoder.label_type) == ("binary", ("no", "yes"), "string")
    assert encoder.cardinalities == (7, 5, 10, 15)
    assert np.array_equal(x_num[:, 3] == 1, np.isnan(tiny_table["age"].to_numpy()))
    assert (x_num[x_num[:, 3] == 1, 0] == 0).all()
    assert x_cat.min() >= 3


def test_order_and_extra_columns_do_not_matter(encoder: Encoder, tiny_table: pa.Table) -> None:
    (batch,) = tiny_table.to_batches()
    (other,) = tiny_table.select(tiny_table.column_names[::-1]).append_column("extra", pa.nulls(200)).to_batches()
    for left, right in zip(encoder.transform(batch), encoder.transform(other), strict=True):
        assert np.array_equal(left, right)


def test_missing_unseen_and_rare_are_three_things(tmp_path: Path) -> None:
    table = pa.table({"c": ["a", "a", "b", None], "y": [0, 1, 0, 1]})
    encoder = fit(table, tmp_path, Schema(label=("y",), numeric=(), categorical=("c",)))
    _, x_cat = encoder.transform(pa.record_batch({"c": ["a", "b", "z", None]}))
    assert x_cat.tolist() == [[3], [2], [1], [0]]


@pytest.mark.parametrize("scaling", ["quantile", "robust", "standard"])
def test_row_by_row_equals_all_at_once_bit_for_bit(scaling: Any, tiny_table: pa.Table, tmp_path: Path) -> None:
    options = EncoderOptions(scaling=scaling, max_categories=3, min_frequency=1)
    encoder = fit(tiny_table, tmp_path, SCHEMA, options=options)
    (batch,) = tiny_table.to_batches()
    rows = [encoder.transform(batch.slice(index, 1)) for index in range(batch.num_rows)]
    for whole, parts in zip(encoder.transform(batch), zip(*rows, strict=True), strict=True):
        assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("cuts", [[200], [1, 199], [50, 50, 50, 50]])
def test_fit_does_not_depend_on_how_files_are_cut(
    cuts: list[int], encoder: Encoder, tiny_table: pa.Table, tmp_path: Path
) -> None:
    from_files = tmp_path / "train"
    from_files.mkdir()
    start = 0
    for index, rows in enumerate(cuts):
        pq.write_table(tiny_table.slice(start, rows), from_files / f"{index}.parquet", row_group_size=17)
        start += rows
    again = Encoder.fit(open_source(str(from_files), split="train"), SCHEMA, options=OPTIONS)
    assert again.categorical == encoder.categorical
    assert [column.knots for column in again.numeric] == [column.knots for column in encoder.numeric]
    assert again.numeric[0].mean == pytest.approx(encoder.numeric[0].mean, rel=1e-12)


def test_wrong_and_missing_columns(encoder: Encoder, tiny_table: pa.Table) -> None:
    (batch,) = tiny_table.drop_columns(["age"]).to_batches()
    with pytest.raises(UserError, match=r"^column 'age' is missing: "):
        encoder.transform(batch)
    (batch,) = tiny_table.set_column(1, "age", tiny_table["city"]).to_batches()
    with pytest.raises(UserError, match=r"^column 'age' has type string, a number is due as in train: convert it"):
        encoder.transform(batch)
    (batch,) = tiny_table.set_column(4, "member", pa.array([1] * 200)).to_batches()
    with pytest.raises(UserError, match=r"^column 'member' has type int64, a boolean is due"):
        encoder.transform(batch)


ONE_OF_EACH: dict[str, pa.Array] = {
    "number": pa.array([1, 20_000, 3]),
    "boolean": pa.array([True, False, True]),
    "date": pa.array([1, 20_000, 3], pa.int32()).cast(pa.date32()),
    "timestamp": pa.array([1, 20_000, 3]).cast(pa.timestamp("s")),
    "zoned timestamp": pa.array([1, 20_000, 3]).cast(pa.timestamp("s", tz="UTC")),
    "time": pa.array([1, 20_000, 3], pa.int32()).cast(pa.time32("s")),
    "duration": pa.array([1, 20_000, 3]).cast(pa.duration("s")),
}


@pytest.mark.parametrize("role", ["numeric", "categorical"])
@pytest.mark.parametrize("fitted", ONE_OF_EACH)
def test_a_column_of_another_kind_is_refused_by_the_encoder_as_by_the_checks(
    fitted: str, role: str, tmp_path: Path
) -> None:
    y = pa.array(["a", "b", "a"])
    roles = {"numeric": (), "categorical": (), role: ("x",)}
    made = fit(pa.table({"x": ONE_OF_EACH[fitted], "y": y}), tmp_path, Schema(label=("y",), **roles))
    again = Encoder.from_json(made.to_json())
    for found, values in ONE_OF_EACH.items():
        pq.write_table(pa.table({"x": values, "y": y}), tmp_path / "val.parquet")
        sources: dict[Split, ParquetSource] = {
            "train": open_source(f"{tmp_path}/train.parquet", split="train"),
            "val": open_source(f"{tmp_path}/val.parquet", split="val"),
        }
        differ = [finding for finding in check_splits(sources, again.schema) if finding.check == "schema"]
        batch = pa.record_batch({"x": values})
        if found == fitted:
            assert [finding.severity for finding in differ] == ["ok"]
            again.transform(batch)
            continue
        assert [finding.severity for finding in differ] == ["error"]
        instants = ", in pandas by pd.to_datetime(column)"
        how = {"date": f"{instants}.dt.date", "timestamp": instants}
        remedy = re.escape(f"convert it{how.get(fitted, '')}")
        with pytest.raises(UserError, match=rf"^column 'x' has type .*, a {fitted} is due as in train: {remedy}$"):
            again.transform(batch)


def test_a_column_of_nulls_alone_may_have_any_type(encoder: Encoder, tiny_table: pa.Table, tmp_path: Path) -> None:
    (batch,) = tiny_table.set_column(5, "joined", pa.nulls(200, pa.timestamp("s"))).to_batches()
    assert (encoder.transform(batch)[0][:, 2] == 0).all()
    empty = pa.table({"x": pa.nulls(3), "z": [1, 2, 3], "y": ["a", "b", "a"]})
    made = fit(empty, tmp_path, Schema(label=("y",), numeric=("x", "z"), categorical=()))
    assert [column.kind for column in made.numeric] == ["nothing", "number"]
    for values in ONE_OF_EACH.values():
        assert (made.transform(pa.record_batch({"x": values, "z": [1, 2, 3]}))[0][:, 0] == 0).all()


def test_labels(encoder: Encoder, tiny_table: pa.Table) -> None:
    (batch,) = tiny_table.to_batches()
    assert encoder.encode_labels(batch).tolist() == [int(value == "yes") for value in tiny_table["label"].to_pylist()]
    with pytest.raises(UserError, match=r"^data.test: column 'label', row 42: 'perhaps' is no class: choose from: no"):
        encoder.encode_labels(pa.record_batch({"label": ["no", "perhaps"]}), first_row=41, where="data.test")


def test_multilabel_and_multiclass(tmp_path: Path) -> None:
    table = pa.table({"x": [1.0, 2.0, 3.0], "a": [0, 1, 1], "b": [True, False, True], "m": ["u", "v", "w"]})
    multi = fit(table, tmp_path, Schema(label=("a", "b"), numeric=("x",), categorical=()))
    assert (multi.task, multi.classes, multi.num_outputs, multi.label_type) == (
        "multilabel",
        ("a", "b"),
        2,
        "int64, bool",
    )
    assert multi.encode_labels(table.to_batches()[0]).tolist() == [[0, 1], [1, 0], [1, 1]]
    many = fit(table, tmp_path, Schema(label=("m",), numeric=("x",), categorical=()))
    assert (many.task, many.num_outputs, many.encode_labels(table.to_batches()[0]).tolist()) == (
        "multiclass",
        3,
        [0, 1, 2],
    )
    assert many.transform(table.to_batches()[0])[1].shape == (3, 0)


def test_all_null_constant_and_infinite_columns(tmp_path: Path) -> None:
    table = pa.table(
        {
            "null": pa.nulls(3),
            "nan": [float("nan")] * 3,
            "inf": [1.0, float("inf"), 2.0],
            "constant": [7, 7, 7],
            "category": pa.nulls(3, pa.string()),
            "y": [0, 1, 1],
        }
    )
    numeric = ("null", "nan", "inf", "constant")
    encoder = fit(table, tmp_path, Schema(label=("y",), numeric=numeric, categorical=("category",)))
    assert encoder.input_names == (*numeric, "inf is missing")
    x_num, x_cat = encoder.transform(table.to_batches()[0])
    assert np.isfinite(x_num).all()
    assert x_num[:, [0, 1, 3]].any() == np.False_
    assert (encoder.cardinalities, x_cat.tolist()) == ((3,), [[0], [0], [0]])


names = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), min_size=5, max_size=5, unique=True
)


@hypothesis_settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=names,
    numbers=st.lists(st.none() | st.floats(), min_size=4, max_size=4),
    texts=st.lists(st.none() | st.text(st.characters(codec="utf-8"), max_size=3), min_size=4, max_size=4),
    scaling=st.sampled_from(["quantile", "robust", "standard"]),
    big=st.booleans(),
)
def test_json_round_trip(
    names: list[str], numbers: list[Any], texts: list[Any], scaling: Any, big: bool, tmp_path: Path
) -> None:
    label = [2**62, 2**62 + 1] * 2 if big else ["à", "\n"] * 2
    columns = [
        pa.array(label),
        pa.array(numbers, pa.float64()),
        pa.array(texts, pa.string()),
        pa.array([1, 2, 3, None]),
    ]
    table = pa.table([*columns, pa.array(texts, pa.string())], names=names)
    schema = Schema(label=(names[0],), numeric=(names[1], names[3]), categorical=(names[2], names[4]))
    options = EncoderOptions(scaling=scaling, max_categories=2, min_frequency=1)
    encoder = fit(table, tmp_path, schema, options=options)
    again = Encoder.from_json(encoder.to_json())
    assert again == encoder
    assert (again.to_json(), again.fingerprint()) == (encoder.to_json(), encoder.fingerprint())
    (batch,) = table.to_batches()
    for left, right in zip(encoder.transform(batch), again.transform(batch), strict=True):
        assert left.tobytes() == right.tobytes()
    assert np.array_equal(encoder.encode_labels(batch), again.encode_labels(batch))


@pytest.mark.parametrize("change", [lambda text: text[:-2], lambda text: "{}", lambda text: "[1]", lambda text: ""])
def test_json_that_is_no_encoder(change: Any, encoder: Encoder) -> None:
    with pytest.raises(UserError, match=r"^encoder: cannot be read"):
        Encoder.from_json(change(encoder.to_json()))


def test_json_of_another_format(encoder: Encoder) -> None:
    data = json.loads(encoder.to_json())
    with pytest.raises(UserError, match=r"^encoder: cannot be read \(ValueError: format 99, this version reads 4\)"):
        Encoder.from_json(json.dumps({**data, "format": 99}))


def test_fingerprint_changes_with_what_was_fitted(encoder: Encoder, tiny_table: pa.Table, tmp_path: Path) -> None:
    assert fit(tiny_table, tmp_path, SCHEMA).fingerprint() == encoder.fingerprint()
    assert fit(tiny_table.slice(1), tmp_path, SCHEMA).fingerprint() != encoder.fingerprint()
    assert fit(tiny_table, tmp_path, SCHEMA, classes=["yes", "no"]).fingerprint() != encoder.fingerprint()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_memory_grows_with_neither_rows_nor_values(tmp_path: Path) -> None:
    """A million distinct values in two sizes of the same table; each size in a process of its own."""
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from tabstep.encoding.encoder import EncoderOptions
        from tabstep.encoding.encoder import Encoder
        from tabstep.schema import Schema
        from tabstep.tables.source import open_source
        from tabstep.encoding.encoded_table import encode_table
        source = open_source(sys.argv[1], split="train")
        schema = Schema(label=("y",), numeric=("x",), categorical=("c",))
        options = EncoderOptions(scaling="quantile", max_categories=1000, min_frequency=2)
        encoder = Encoder.fit(source, schema, options=options)
        encode_table(source, encoder, Path(sys.argv[2]))
        # not ru_maxrss: that one begins with the peak of the parent process
        print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
    """)
    values = np.arange(1_000_000)
    table = pa.table({"c": [f"value-{value}" for value in values], "x": values * 0.5, "y": values % 2})
    peaks = []
    for files in (1, 4):
        directory = tmp_path / str(files)
        directory.mkdir()
        for index in range(files):
            pq.write_table(table, directory / f"{index}.parquet", row_group_size=250_000)
        command = [sys.executable, "-c", program, str(directory), str(tmp_path / "cache")]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) // 1024)
    assert peaks[0] < 400
    assert peaks[1] < peaks[0] + 60


@pytest.mark.slow
def test_5000_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"f{index}" for index in range(5_000)]
    columns: dict[str, Any] = {name: rng.normal(size=700).astype(np.float32) for name in names}
    columns["y"] = rng.integers(0, 2, 700)
    encoder = fit(pa.table(columns), tmp_path, Schema(label=("y",), numeric=tuple(names), categorical=()))
    assert encoder.num_numeric == 5_000
    assert len(encoder.to_json()) < 20e6
    assert Encoder.from_json(encoder.to_json()) == encoder


def two_halves(columns: dict[str, Any], rate: np.ndarray, directory: Path) -> tuple[pa.Table, pa.Table]:
    """Draw a label from ``rate`` and write the first two thirds of the rows as train; return both parts."""
    label = (np.random.default_rng(7).random(len(rate)) < rate).astype(int)
    table = pa.table({**columns, "y": label})
    rows = len(rate) * 2 // 3
    pq.write_table(table.slice(0, rows), directory / "train.parquet")
    return table.slice(0, rows), table.slice(rows)


def linear_auroc(train: pa.Table, test: pa.Table, schema: Schema, directory: Path) -> float:
    """Return the test AUROC of logistic regression over what the encoder makes, codes as single inputs."""
    source = open_source(str(directory / "train.parquet"), split="train")
    encoder = Encoder.fit(source, schema, options=replace(OPTIONS, max_categories=10_000, min_frequency=1))
    encoded = encode_table(source, encoder, directory / "cache", fitted_on=True)
    x_num, x_cat = encoder.transform(test.combine_chunks().to_batches()[0])
    one_hot = OneHotEncoder(handle_unknown="ignore").fit(encoded.x_cat)
    inputs = [hstack([num, one_hot.transform(cat)]) for num, cat in ((encoded.x_num, encoded.x_cat), (x_num, x_cat))]
    model = LogisticRegression(C=0.05, max_iter=300).fit(inputs[0], encoded.y)
    return float(roc_auc_score(test["y"].to_numpy(), model.predict_proba(inputs[1])[:, 1]))


def known_auroc(train: pa.Table, test: pa.Table, keys: list[str]) -> float:
    """Return what the smoothed rates of the right columns reach, by hand."""
    rates = train.group_by(keys).aggregate([("y", "sum"), ("y", "count")])
    known = dict(zip(zip(*(rates[key].to_pylist() for key in keys), strict=True), range(rates.num_rows), strict=True))
    sums, counts = rates["y_sum"].to_numpy(), rates["y_count"].to_numpy()
    place = [known.get(key) for key in zip(*(test[key].to_pylist() for key in keys), strict=True)]
    scores = [0.5 if at is None else (sums[at] + 2) / (counts[at] + 4) for at in place]
    return float(roc_auc_score(test["y"].to_numpy(), scores))


def logistic(score: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-score))


def test_hour_and_weekday_are_read_from_a_timestamp(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    seconds = rng.integers(0, 730 * 86_400, 60_000) + 1_640_995_200
    hour, weekday = seconds % 86_400 // 3_600, (seconds // 86_400 + 3) % 7
    rate = logistic(rng.normal(0, 0.9, 24)[hour] + rng.normal(0, 0.8, 7)[weekday])
    columns = {"t": pa.array(seconds).cast(pa.timestamp("s")), "noise": rng.normal(size=60_000)}
    train, test = two_halves(columns, rate, tmp_path)
    best = roc_auc_score(test["y"].to_numpy(), rate[40_000:])
    schema = Schema(label=("y",), numeric=("t", "noise"), categorical=())
    assert linear_auroc(train, test, schema, tmp_path) > best - 0.015


def test_integers_that_are_codes_are_read_as_codes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shop = rng.integers(0, 3_000, 60_000)
    columns = {"shop": rng.permutation(100_000)[:3_000][shop], "noise": rng.normal(size=60_000)}
    train, test = two_halves(columns, logistic(rng.normal(0, 1.5, 3_000)[shop]), tmp_path)
    schema = Schema(label=("y",), numeric=("shop", "noise"), categorical=())
    assert linear_auroc(train, test, schema, tmp_path) > known_auroc(train, test, ["shop"]) - 0.015


@pytest.mark.parametrize(("values", "pairs"), [(60, 3_600), (2_000, 3_000)])
def test_pairs_that_decide_are_found(values: int, pairs: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pair = rng.integers(0, pairs, 60_000)
    first, second = rng.integers(0, values, (2, pairs)) if pairs < values**2 else divmod(np.arange(pairs), values)
    columns = {"a": first[pair].astype(str), "b": second[pair].astype(str)}
    train, test = two_halves(columns, logistic(rng.normal(0, 1.6, pairs)[pair]), tmp_path)
    schema = Schema(label=("y",), numeric=(), categorical=("a", "b"))
    assert linear_auroc(train, test, schema, tmp_path) > known_auroc(train, test, ["a", "b"]) - 0.015
