from __future__ import annotations

import pytest
from hydra._internal.utils import get_args_parser
from hypothesis import given
from hypothesis import strategies as st

from tabstep.config.command_line import SWITCHES, VALUE_FLAGS, Command, order_argv
from tabstep.errors import ProblemsError


@pytest.mark.parametrize(
    ("argv", "ordered"),
    [
        ([], []),
        (["a=1"], ["a=1"]),
        (["a=1", "-m", "b=1,2"], ["--multirun", "a=1", "b=1,2"]),
        (["-m", "a=1", "b=1,2"], ["--multirun", "a=1", "b=1,2"]),
        (["a=1", "b=1,2", "--multirun"], ["--multirun", "a=1", "b=1,2"]),
        (["a=1", "--cfg", "job", "b=2"], ["--cfg=job", "a=1", "b=2"]),
        (["a=1", "--cfg=job"], ["--cfg=job", "a=1"]),
        (["a=1", "-c", "job", "-p", "data"], ["--cfg=job", "--package=data", "a=1"]),
        (["a=1", "-cd", "x=y", "-cn", "mine"], ["--config-dir=x=y", "--config-name=mine", "a=1"]),
        (["--info", "a=1"], ["--info=all", "a=1"]),
        (["a=1", "-i", "config", "b=1"], ["--info=config", "a=1", "b=1"]),
        (["~data.val", "+x=-1", "y=-1"], ["~data.val", "+x=-1", "y=-1"]),
    ],
)
def test_flags_come_first(argv: list[str], ordered: list[str]) -> None:
    assert order_argv(argv) == ordered
    parsed = get_args_parser().parse_args(ordered)
    assert parsed.overrides == [argument for argument in ordered if not argument.startswith("--")]


def test_flags_are_those_of_hydra() -> None:
    actions = [action for action in get_args_parser()._actions if action.option_strings]
    names = {(*action.option_strings, None)[:2]: action.nargs for action in actions}
    long_first = {tuple(sorted(filter(None, pair), key=len, reverse=True)): nargs for pair, nargs in names.items()}
    assert {pair for pair, nargs in long_first.items() if nargs is None} == _pairs(VALUE_FLAGS)
    assert {pair for pair, nargs in long_first.items() if nargs is not None} == _pairs(SWITCHES)


def _pairs(flags: dict[str, str | None]) -> set[tuple[str, ...]]:
    return {(long,) if short is None else (long, short) for long, short in flags.items()}


@pytest.mark.parametrize(
    ("argv", "lines"),
    [
        (["--label", "y"], ["--label: no such flag: settings are written key=value: did you mean 'schema.label'?"]),
        (["--multirn"], ["--multirn: no such flag: did you mean '--multirun'?"]),
        (["a=1", "--cfg"], ["--cfg: needs a value behind it"]),
        (["--cfg", "jbo"], ["--cfg: no such choice, got 'jbo': did you mean 'job'?"]),
        (["--foo=1", "-x"], ["--foo=1: no such flag: ", "-x: no such flag: "]),
    ],
)
def test_flag_that_hydra_does_not_know(argv: list[str], lines: list[str]) -> None:
    with pytest.raises(ProblemsError) as caught:
        Command.split(argv)
    assert len(caught.value.problems) == len(lines)
    assert all(found.startswith(line) for found, line in zip(caught.value.problems, lines, strict=True))


@given(st.permutations(["a=1", "b=2,3", "-m", "--cfg=job", "+c=x"]))
def test_order_of_overrides_is_kept(argv: list[str]) -> None:
    command = Command.split(argv)
    assert list(command.overrides) == [argument for argument in argv if not argument.startswith("-")]
    assert command.flags == {"--multirun": None, "--cfg": "job"}
