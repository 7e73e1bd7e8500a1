from __future__ import annotations

import logging
import os
import subprocess
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tabstep import entry
from tabstep.config.settings import Settings
from tabstep.errors import RetryError, StoppedError, UserError

SOURCE = str(Path(entry.__file__).resolve().parent.parent)


SPLITS = (("train", "a"), ("val", "b"))


@dataclass
class Runs:
    """Stands in for ``tabstep.run.run``: remembers what it was given, and fails as it is told."""

    settings: list[Settings] = field(default_factory=list)
    configs: list[dict[str, Any]] = field(default_factory=list)
    argv: list[list[str]] = field(default_factory=list)
    shown: list[set[str]] = field(default_factory=list)
    failure: BaseException | None = None

    def run(self, settings: Settings, config: dict[str, Any], shown: set[str]) -> float:
        self.settings.append(settings)
        self.configs.append(config)
        self.argv.append(list(sys.argv))
        self.shown.append(shown)
        if self.failure is not None:
            raise self.failure
        return 0.5


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_logging: None) -> Runs:
    found = Runs()
    module = types.ModuleType("tabstep.run.run")
    module.run = found.run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tabstep.run.run", module)
    monkeypatch.setattr(sys, "argv", ["train.py", "as", "given"])
    monkeypatch.chdir(tmp_path)
    return found


def test_a_run_that_is_refused_does_not_put_its_name_to_the_one_that_is_there(runs: Runs, tmp_path: Path) -> None:
    assert entry.main(["seed=1", "paths.output_dir=out"]) == 0
    (tmp_path / "out" / "report.json").write_text("{}")
    overrides = tmp_path / "out" / ".hydra" / "overrides.yaml"
    before = overrides.read_text()
    assert "seed=1" in before
    runs.failure = UserError("resume: set that back")
    assert entry.main(["seed=2", "paths.output_dir=out"]) == 2
    assert overrides.read_text() == before
    runs.failure = None
    assert entry.main(["seed=3", "paths.output_dir=out"]) == 0
    assert "seed=3" in overrides.read_text()


def test_a_run_gets_settings_and_the_plain_configuration(runs: Runs, tmp_path: Path) -> None:
    assert entry.main(["trainer=cpu", "seed=3", "paths.output_dir=out"]) == 0
    assert runs.settings[0].seed == 3
    assert runs.settings[0].paths.output_dir == runs.configs[0]["paths"]["output_dir"] == str(tmp_path / "out")
    assert "hydra" not in runs.configs[0]
    assert yaml.safe_load(yaml.safe_dump(runs.configs[0])) == runs.configs[0]
    assert (tmp_path / "out" / ".hydra" / "overrides.yaml").is_file()


def test_default_directory_has_the_time_in_its_name(runs: Runs, tmp_path: Path) -> None:
    assert entry.main([]) == 0
    directory = Path(runs.settings[0].paths.output_dir)
    assert directory.parent == tmp_path / "logs" / "train" / "runs"
    assert directory.is_dir()


def test_hydras_own_directory_is_followed(runs: Runs, tmp_path: Path) -> None:
    assert entry.main(["hydra.run.dir=mine"]) == 0
    assert runs.settings[0].paths.output_dir == str(tmp_path / "mine")


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param(["-m", "trainer=cpu", "seed=1,2"], marks=pytest.mark.slow),
        ["trainer=cpu", "-m", "seed=1,2"],
        pytest.param(["seed=1,2", "trainer=cpu", "-m"], marks=pytest.mark.slow),
    ],
)
def test_sweep_takes_flags_anywhere(runs: Runs, tmp_path: Path, argv: list[str]) -> None:
    assert entry.main(argv) == 0
    assert [settings.seed for settings in runs.settings] == [1, 2]
    directories = [Path(settings.paths.output_dir) for settings in runs.settings]
    assert [directory.name for directory in directories] == ["0", "1"]
    assert directories[0].parent.parent == tmp_path / "logs" / "train" / "multiruns"


def test_trials_of_one_process_know_what_was_shown(runs: Runs) -> None:
    assert entry.main(["-m", "trainer=cpu", "seed=1,2"]) == 0
    first, second = runs.shown
    assert first is second
    assert entry.main(["trainer=cpu"]) == 0
    assert runs.shown[2] is not first


def test_sweep_below_a_named_directory(runs: Runs, tmp_path: Path) -> None:
    assert entry.main(["paths.output_dir=out", "seed=1,2", "-m"]) == 0
    assert [settings.paths.output_dir for settings in runs.settings] == [str(tmp_path / "out" / n) for n in "01"]


def test_arguments_are_as_given_while_it_runs_and_afterwards(runs: Runs) -> None:
    assert entry.main(["seed=3"]) == 0
    assert [*runs.argv, sys.argv] == [["train.py", "as", "given"]] * 2
    assert "HYDRA_FULL_ERROR" not in os.environ


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [
        (UserError("data.train: no such file"), 2, "data.train: no such file\n"),
        (RetryError("disk full"), 75, "disk full\n"),
        (StoppedError("saved", 15), 143, "saved\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_exit_code_and_one_line(
    runs: Runs, capsys: pytest.CaptureFixture[str], failure: BaseException, code: int, said: str
) -> None:
    runs.failure = failure
    assert entry.main([]) == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("failure", "left"), [(UserError("a"), False), (RetryError("b"), False), (StoppedError("c", 15), True)]
)
def test_a_run_that_could_not_begin_leaves_no_directory(
    runs: Runs, tmp_path: Path, failure: Exception, left: bool
) -> None:
    runs.failure = failure
    entry.main(["paths.output_dir=out"])
    assert (tmp_path / "out").exists() == left


def test_what_lies_in_the_directory_stays(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("{}")
    runs.failure = UserError("a")
    entry.main(["paths.output_dir=out"])
    assert (tmp_path / "out" / "report.json").exists()
    assert (tmp_path / "out" / ".hydra").exists()


@pytest.mark.parametrize("failure", [ValueError("odd"), KeyError("x"), OSError("lost")])
def test_a_fault_of_ours_has_a_traceback(runs: Runs, capsys: pytest.CaptureFixture[str], failure: Exception) -> None:
    runs.failure = failure
    assert entry.main([]) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "in run\n" in said
    assert said.splitlines()[-1].startswith(f"this is a fault of tabstep, not of your input: {type(failure).__name__}")


def test_traceback_on_request(runs: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABSTEP_TRACEBACK", "1")
    runs.failure = UserError("wrong")
    assert entry.main([]) == 2
    said = capsys.readouterr().err
    assert "Traceback" in said
    assert said.endswith("\nwrong\n")


def test_a_sweep_of_failing_jobs_ends_with_their_code(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs.failure = UserError("wrong")
    assert entry.main(["-m", "seed=1,2"]) == 2
    assert capsys.readouterr().err == "none of 2 trials came to a result; trial 1: wrong\n"


MISTAKES = [
    (["trainer.max_epoch=3"], ["trainer.max_epoch: no such key (got 3): did you mean 'trainer.max_epochs'?"]),
    (["+trainer.max_epoch=3"], ["trainer.max_epoch: no such key (got 3): did you mean 'trainer.max_epochs'?"]),
    (["data.path=nothing"], ["data.path: no such directory: nothing"]),
    (["data.train=a.csv", "data.val=b.csv"], [f"data.{k}: no such file or directory: {f}.csv" for k, f in SPLITS]),
    (["epochs=3", "batch_size=8", "lr=1"], [
        "epochs: no such key (got 3): did you mean 'trainer.max_epochs'?",
        "batch_size: no such key (got 8): did you mean 'data.batch_size'?",
        "lr: no such key (got 1): did you mean 'optimizer.lr'?",
    ]),
    (["model=rsnet"], ["model: no such option, got 'rsnet': did you mean 'resnet'?"]),
    (["model.expansion=2"], ["model.expansion: no such key in the composed configuration: it belongs to model=resnet"]),
    (["+model.expansion=2"], ["model.expansion: tabm has no such key (got 2): it belongs to model=resnet"]),
    (["+experiment=example"], ["experiment: is chosen twice: give one option, experiment=..., without a '+'"]),
    (["data.path=${oc.env:NOPE}"], ["data.path: the environment variable 'NOPE' is not set"]),
    (["paths.output_dir=${oc.env:NOPE}"], ["paths.output_dir: the environment variable 'NOPE' is not set"]),
    (["data.path=???"], ["data.path: is missing: set it to text or null"]),
    (["--multirn"], ["--multirn: no such flag: did you mean '--multirun'?"]),
    (["--config-dir", "nowhere"], ["--config-dir: no such directory: 'nowhere'"]),
    (["hydra.a=1"], ["hydra.a: no such key in the composed configuration: --cfg hydra prints those that there are"]),
    (["seed=1,2"], ["seed=1,2: several values need -m, a list needs brackets, and a comma in a text needs quotes"]),
    (["-m", "seed=1,abc"], ["seed: expected a whole number >= 0 and <= 4294967295, got 'abc'"]),
    (["--cfg", "job", "optimizer.lr=abc"], ["optimizer.lr: expected a number > 0, got 'abc'"]),
    (["--config-name", "nope"], ["Cannot find primary config 'nope'. Check that it's in your config search path."]),
    (
        # a mistake on the command line, in a choice, in a value and between keys, at once
        ["sed=1", "optimizer=adamv", "data.batch_size=0", "schema.id=a", "schema.label=a", "resume=atuo"],
        [
            "sed: no such key (got 1): did you mean 'seed'?",
            "optimizer: no such option, got 'adamv': did you mean 'adamw'?",
            "data.batch_size: expected auto or a whole number >= 1, got 0",
            "schema.id, schema.label: column 'a' has several roles: give it one",
            "resume: expected auto, must, never or the path of a checkpoint, got 'atuo': did you mean 'auto'?",
        ],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("argv", "lines"), MISTAKES, ids=[" ".join(argv) for argv, _ in MISTAKES])
def test_mistake_ends_before_anything_is_written(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: list[str], lines: list[str]
) -> None:
    assert entry.main(argv) == 2
    assert capsys.readouterr().err.splitlines() == lines
    assert runs.settings == []
    assert list(tmp_path.iterdir()) == []


def test_mistake_in_an_experiment_file(runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    file = tmp_path / "mine" / "experiment" / "x.yaml"
    file.write_text("# @package _global_\ntrainer:\n  max_epoch: 3\ndata:\n  checks: off\n")
    assert entry.main(["--config-dir", "mine", "experiment=x"]) == 2
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "data.checks",
        "trainer.max_epoch",
    ]
    file.write_text("# @package _global_\ntrainer: {max_epochs: 3")
    assert entry.main(["--config-dir", "mine", "experiment=x"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    file.write_text("# @package _global_\ntrainer:\n  max_epochs: 3\n")
    assert entry.main(["experiment=x", "--config-dir", "mine"]) == 0
    assert runs.settings[0].trainer.max_epochs == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("label: NO", "schema.label: expected text, a list of texts or null, got false: quote it"),
        ("label: on", "schema.label: expected text, a list of texts or null, got true: quote it"),
        ("id: 12:30", "schema.id: expected text or null, got 750: quote it"),
        ("id: 010", "schema.id: expected text or null, got 8: quote it"),
        ("numeric: [a, 1.5]", "schema.numeric[1]: expected text, got 1.5: quote it"),
        ("classes: [no, yes]", "schema.classes[0]: expected text or a whole number, got false: quote it"),
        ("label: [a", "while parsing"),
        ("- a", "schema: expected the keys id, label,"),
    ],
)
def test_what_yaml_makes_of_text(
    runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, line: str
) -> None:
    (tmp_path / "schema").mkdir()
    (tmp_path / "schema" / "mine.yaml").write_text(f"defaults:\n  - auto\n\n{text}\n" if text[0] != "-" else text)
    assert entry.main(["--config-dir", str(tmp_path), "schema=mine"]) == 2
    assert line in capsys.readouterr().err.splitlines()[0]
    assert runs.settings == []


def test_directory_that_cannot_be_written(runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert entry.main(["paths.output_dir=file/out"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("paths.output_dir: cannot be written: Not a directory: ")
    assert len(said.splitlines()) == 1


def test_hostile_text_cannot_drive_the_terminal(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs.failure = UserError("column '\x1b[2J' is missing")
    assert entry.main([]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_lightnings_lines_appear_once(runs: Runs, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert entry.main(["paths.output_dir=out"]) == 0
    lightning = logging.getLogger("lightning")
    own = logging.StreamHandler()  # as `import lightning` adds it, later than Hydra's
    lightning.addHandler(own)
    logging.getLogger("lightning.pytorch.trainer").warning("GPU available")
    logging.getLogger("tabstep.run.run").info("ours")
    lightning.removeHandler(own)
    captured = capsys.readouterr()
    assert (captured.err.count("GPU available"), captured.out.count("GPU available")) == (1, 0)
    assert (captured.out.count("ours"), captured.err.count("ours")) == (1, 0)
    written = (tmp_path / "out" / "train.log").read_text()
    assert (written.count("GPU available"), written.count("ours")) == (1, 1)


HEAVY = ("torch", "lightning", "pyarrow", "numpy", "torchmetrics")


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["--cfg", "job"], 0),
        (["--help"], 0),
        (["trainer.max_epoch=3"], 2),
        (["optimizer.lr=abc", "model=resnet"], 2),
        (["data.path=nothing"], 2),
    ],
)
def test_nothing_heavy_is_imported(argv: list[str], code: int) -> None:
    program = f"""
import sys
from tabstep.entry import main
try:
    code = main()
except SystemExit as end:
    code = end.code or 0
print([name for name in {HEAVY} if name in sys.modules], code)
"""
    done = _python("-c", program, *argv)
    assert done.stdout.splitlines()[-1] == f"[] {code}", done.stderr


def test_help_does_without_hydra() -> None:
    done = _python("-c", "import sys\nfrom tabstep.entry import main\nmain()\nprint('hydra' in sys.modules)", "--help")
    assert done.stdout.splitlines()[-1] == "False"


def test_script_of_a_checkout(tmp_path: Path) -> None:
    script = Path(SOURCE).parent / "train.py"
    done = subprocess.run(
        [sys.executable, str(script), "a=1", "--cfg=job"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("a: no such key")
    done = subprocess.run(
        [sys.executable, str(script), "seed=5", "--cfg=job"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert yaml.safe_load(done.stdout)["seed"] == 5
    assert list(tmp_path.iterdir()) == []


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)
