"""What docs/ repeats of the source, beside the source itself."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import tabstep
from tabstep.config.key_types import groups, key_paths

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generated_docs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated_docs", ROOT / "scripts" / "generated_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_key_has_a_row_with_its_default(generated_docs: ModuleType) -> None:
    rows = dict(re.findall(r"^\| `([^`]+)` \| `([^`]*)` \|", generated_docs.keys_page(), re.M))
    plain = {
        path
        for path, variants in key_paths().items()
        if not groups(variants[0]) and (not path.endswith(".name") or path == "data.reader.name")
    }
    assert rows.keys() == plain
    assert rows["data.val_share"] == "0.2"
    assert rows["optimizer.lr"] == "0.001 (muon), 0.001 (adamw), 0.1 (sgd)"


def test_every_public_name_has_a_section(generated_docs: ModuleType) -> None:
    titles = re.findall(r"^## tabstep\.(\w+)$", generated_docs.names_page(), re.M)
    assert sorted(titles) == sorted(tabstep.__all__)


def test_a_docstring_becomes_lists_and_blocks(generated_docs: ModuleType) -> None:
    source = '''
def f(a: int, *, b: str = "x") -> int:
    """Return ``a``.

    Args:
        a: the one, on
            two lines.
        b: the other.

    >>> f(1)
    1
    """
'''
    (node,) = ast.parse(source).body
    assert generated_docs._docstring(node) == (
        "Return `a`.\n\n**Args**\n\n- `a`: the one, on two lines.\n- `b`: the other.\n\n```text\n>>> f(1)\n1\n```\n"
    )
    assert generated_docs._signature(node) == "```text\nf(a: int, *, b: str='x') -> int\n```\n"
