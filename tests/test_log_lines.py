import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tabstep.log_lines import (
    FIELDS,
    METRIC_NAMES,
    METRIC_REGEXES,
    batch_line,
    best_line,
    duration,
    epoch_line,
    number,
    parse_line,
    speed_line,
)

ROW = {
    "epoch": 1,
    "train_loss": 0.2458,
    "train_accuracy": 0.8952,
    "val_loss": 0.2511,
    "val_f1": 0.7012,
    "val_auroc": 0.9231,
}
LINE = "Epoch: 1 | Train Loss: 0.2458 | Accuracy: 89.52 | Val Loss: 0.2511 | F1: 0.7012 | AUROC: 0.9231"
HARD_NUMBERS = [1.2e-05, -1.2e-05, math.nan, math.inf, -math.inf, -0.25, 0.0, -0.0, 1e-300, 1e300, 0.00099999, 123456.7]
numbers = st.one_of(st.floats(), st.floats(min_value=-10, max_value=10), st.sampled_from(HARD_NUMBERS))
shares = numbers.filter(lambda value: not 1e306 < abs(value) < math.inf)  # above, 100 times it is no float64


def close(read: float, written: float, *, digits: float = 5e-4, decimals: float = 5.001e-5) -> bool:
    """What a line keeps of a number: four significant digits or four decimals."""
    return (math.isnan(read) and math.isnan(written)) or math.isclose(read, written, rel_tol=digits, abs_tol=decimals)


def test_epoch_line_text() -> None:
    assert epoch_line(ROW) == LINE


def test_epoch_line_fits_a_hundred_columns() -> None:
    worst = dict.fromkeys(ROW, 0.0001) | {"epoch": 1000, "train_loss": 10.5, "train_accuracy": 1.0}
    assert len(epoch_line(worst)) <= 100


def test_speed_line_round_trip() -> None:
    assert speed_line(51234.4, 83.2) == "Speed | 51234 rows/s | ETA 0:01:23"
    assert parse_line("[1]<stdout>:Speed | 51234 rows/s | ETA 0:01:23") == {"rows_per_s": 51234.0, "eta_s": 83.0}
    assert parse_line(speed_line(math.inf, math.nan)) == {"rows_per_s": math.inf}


def test_batch_line_text() -> None:
    assert batch_line(100, 937, 0.43121) == "Batch   100/  937 | Loss: 0.4312"
    assert batch_line(1234567, 2345678, math.nan) == "Batch 1234567/2345678 | Loss: nan"


def test_a_field_without_a_value_is_left_out() -> None:
    assert epoch_line({"epoch": 3, "val_f1": 1}) == "Epoch: 3 | F1: 1.0000"


def test_a_row_without_an_epoch_is_refused() -> None:
    with pytest.raises(KeyError):
        epoch_line({"train_loss": 1.0})


def test_parse_reads_every_part() -> None:
    assert parse_line(LINE) == ROW
    assert parse_line("[1,mpirank:0,algo-1]<stdout>:" + LINE + "\n")["val_auroc"] == 0.9231


@pytest.mark.parametrize("line", ["", "Epoch: x", "Accuracy: 89.52", "2026-11-01 INFO Train Loss: 0.1", "Batch of 3"])
def test_parse_of_another_line_is_empty(line: str) -> None:
    assert parse_line(line) == {}


@pytest.mark.parametrize("value", HARD_NUMBERS)
@pytest.mark.parametrize("field", [field for field in FIELDS if not field.percent])
def test_round_trip_of_hard_numbers(field, value: float) -> None:
    line = epoch_line({"epoch": 2, field.key: value})
    assert close(parse_line(line)[field.key], value)
    assert float(re.search(METRIC_REGEXES[field.metric], line)[1]) == parse_line(line)[field.key] or math.isnan(value)


@given(
    epoch=st.integers(1, 10**9),
    values=st.fixed_dictionaries({}, optional={field.key: shares if field.percent else numbers for field in FIELDS}),
)
def test_epoch_line_round_trip(epoch: int, values: dict[str, float]) -> None:
    line = epoch_line({"epoch": epoch, **values})
    read = parse_line(line)
    assert "\n" not in line
    assert "\r" not in line
    assert read.keys() == {"epoch", *values}
    assert read["epoch"] == epoch
    percent = {field.key for field in FIELDS if field.percent}
    for key, value in values.items():
        assert close(read[key], value), line
        assert key in percent or number(read[key]) == number(value)
    assert epoch_line(read) == line or any(abs(value) > 1e4 for key, value in values.items() if key in percent)


@given(batch=st.integers(1, 10**8), total=st.integers(1, 10**8), loss=numbers)
def test_batch_line_round_trip(batch: int, total: int, loss: float) -> None:
    line = batch_line(batch, total, loss)
    read = parse_line(line)
    assert (read["batch"], read["batches"]) == (batch, total)
    assert close(read["loss"], loss)
    assert batch_line(batch, total, read["loss"]) == line


@given(values=st.fixed_dictionaries({field.key: numbers for field in FIELDS}), batch=st.integers(1, 999), loss=numbers)
def test_each_regex_finds_its_own_number_once(values: dict[str, float], batch: int, loss: float) -> None:
    lines = [batch_line(batch, 999, loss), epoch_line({"epoch": 7, **values}), speed_line(5.0, 1.0)]
    text = "\n".join(lines)
    for field in FIELDS:
        assert re.findall(METRIC_REGEXES[field.metric], text) == [field.text(values[field.key]).split(": ")[1]]
    assert re.findall(METRIC_REGEXES["Batch Loss"], text) == [number(loss)]
    assert re.findall(METRIC_REGEXES["Rows per Second"], text) == ["5"]


@given(
    values=st.fixed_dictionaries({field.key: st.floats(width=32) for field in FIELDS}),
    last=st.fixed_dictionaries({field.key: numbers for field in FIELDS}),
)
def test_the_last_value_of_each_metric_is_the_best_epochs(values: dict[str, float], last: dict[str, float]) -> None:
    """What a tuning service compares runs by; it keeps a number as a float of 32 bits."""
    log = "\n".join([epoch_line({"epoch": 9, **last}), best_line({"best_epoch": 3, **values})])
    for field in FIELDS:
        found = re.findall(METRIC_REGEXES[field.metric], log)
        assert len(found) == 2
        assert field.value(found[-1]) == pytest.approx(values[field.key], rel=1e-6, nan_ok=True)
    assert parse_line(log.splitlines()[-1]) == {}, "no epoch of its own"


def test_a_score_that_is_not_known_is_no_number() -> None:
    line = best_line({"best_epoch": 1, "val_auroc": None, "val_loss": 1e-7})
    assert line == "Best epoch: 1 | Val Loss: 1e-07 | AUROC: nan"


def test_names_that_charts_and_tuners_rely_on() -> None:
    assert {"Train Loss", "Validation Loss", "Validation F1 Score", "Validation AUC ROC"} <= METRIC_REGEXES.keys()
    assert METRIC_NAMES["val_auroc"] == "Validation AUC ROC"
    assert all(len(regex) <= 500 and re.compile(regex).groups == 1 for regex in METRIC_REGEXES.values())
    assert len(METRIC_REGEXES) <= 40


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (3600, "1:00:00"), (1e6, "277:46:40"), (-1, "?"), (math.nan, "?")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
