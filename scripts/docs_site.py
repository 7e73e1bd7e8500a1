"""Hooks of MkDocs: README.md is the site's first page, and the marks of tests/test_readme.py stay out of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
MARK = re.compile(r"^<!-- .*? -->\n", re.M)
LINK = re.compile(r"(?<=\]\()(?:docs/|\.\./)?([\w./-]+)(?=[#)])")


def on_files(files: Files, config: Any) -> Files:
    """Add what lies beside docs/."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    files.append(File.generated(config, "LICENSE", abs_src_path=str(ROOT / "LICENSE")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leave marks out, and turn the links of the repository into those of the site."""
    return LINK.sub(lambda link: PAGES.get(link[1], link[1]), MARK.sub("", markdown))
