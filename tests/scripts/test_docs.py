"""The site of README.md and docs/: every link has a target, and what only the repository needs stays out."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed")
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


def test_every_page_is_built(site: Path) -> None:
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} | {"index", "contributing", "changelog", "404"}
    assert {page.stem for page in site.glob("*.html")} == pages


def test_the_first_page_is_the_readme(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="tables.html"' in text
    assert 'src="way.svg"' in text
    assert (site / "way.svg").is_file()
    assert (site / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_marks_stay_out_and_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"<p>&lt;!-- |<!-- (prints|not run|needs|after|exit)", text), page.name
        assert not re.search(r'<(script|link|img)[^>]*(src|href)="(https?:)?//', text), page.name


def test_the_search_knows_the_keys(site: Path) -> None:
    assert "callbacks.early_stopping.patience_steps" in (site / "search" / "search_index.json").read_text()
