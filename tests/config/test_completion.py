from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tabstep import cli

BASH = shutil.which("bash")
pytestmark = pytest.mark.skipif(BASH is None, reason="bash is not installed")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "tabstep.bash"
    with pytest.MonkeyPatch.context() as patch, open(path, "w", encoding="utf-8") as file:
        patch.setattr("sys.stdout", file)
        assert cli.main(["completion", "bash"]) == 0
    return path


def completed(script: Path, line: str, function: str = "_tabstep") -> list[str]:
    """What bash would offer, its words broken at '=' as bash breaks them."""
    program = """
source "$1"
COMP_LINE="$2" COMP_POINT=${#2}
read -ra COMP_WORDS <<< "${2//=/ = }"
[[ "$2" == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
"$3"
printf '%s\\n' "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        [str(BASH), "-c", program, "bash", str(script), line, function], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tabstep pre", ["predict"]),
        ("tabstep train mod", ["model.depth="]),
        ("tabstep train model=res", ["resnet"]),
        ("tabstep train data.che", ["data.checks=off", "data.checks=strict", "data.checks=warn"]),
        ("tabstep train data.checks=", ["off", "strict", "warn"]),
        ("tabstep train trainer.deterministic=", ["false", "true"]),
        ("tabstep train optimizer.lr=", [""]),
        ("tabstep train --mul", ["--multirun"]),
        ("tabstep predict model table --o", ["--out"]),
        ("tabstep predict model tab", []),
    ],
)
def test_words_of_a_line(script: Path, line: str, words: list[str]) -> None:
    found = completed(script, line)
    if line.endswith(" mod"):
        assert "model.width=" in found
        assert "model=mlp" in found
    else:
        assert found == [word for word in words if word]


def test_every_command_and_group_is_offered(script: Path) -> None:
    assert set(completed(script, "tabstep ")) == {"train", *cli.COMMANDS}
    words = completed(script, "scripts/train ", "_tabstep_train")
    assert {"seed=", "resume=", "data.path=", "scheduler=cosine", "objective=val_auroc", "--config-dir"} <= set(words)
