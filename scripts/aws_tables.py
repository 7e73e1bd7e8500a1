"""Writes the regions and accounts of src/tabstep/launch/request/images.yaml, from the tables of the SDK and botocore.

python scripts/aws_tables.py            writes them
python scripts/aws_tables.py --check    exits with 1 where they are not those of the installed versions

Another file may be named. It needs the extra `sagemaker`, and asks nobody.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parent.parent / "src/tabstep/launch/request/images.yaml"
MARK = "# What follows is written by scripts/aws_tables.py.\n"


def main(arguments: Sequence[str]) -> int:
    """Write the table, or compare it with the one that is there."""
    files = [argument for argument in arguments if not argument.startswith("--")]
    file = Path(files[0]) if files else TABLE
    before = file.read_text(encoding="utf-8")
    after = before.partition(MARK)[0] + MARK + _section("accounts", _accounts()) + _section("regions", _regions())
    if "--check" not in arguments:
        file.write_text(after, encoding="utf-8")
        return 0
    if before != after:
        print(f"{file}: is not that of the installed SDK: run python scripts/aws_tables.py", file=sys.stderr)
    return int(before != after)


def _accounts() -> dict[str, list[str]]:
    """Return the regions of each account that has AWS's images, of the newest version that the SDK knows."""
    versions = _read("sagemaker", "image_uri_config/pytorch.json")["training"]["versions"]
    newest = max(versions, key=lambda version: tuple(map(int, version.split("."))))
    return _inverted(versions[newest]["registries"])


def _regions() -> dict[str, list[str]]:
    """Return the regions by the suffix of their addresses."""
    partitions = _read("botocore", "data/partitions.json")["partitions"]
    suffixes = {region: each["outputs"]["dnsSuffix"] for each in partitions for region in each["regions"]}
    return _inverted({region: suffix for region, suffix in suffixes.items() if not region.endswith("-global")})


def _inverted(groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the keys of each value, the value with the most of them first."""
    found: dict[str, list[str]] = {}
    for key, value in sorted(groups.items()):
        found.setdefault(value, []).append(key)
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def _section(name: str, groups: Mapping[str, Sequence[str]]) -> str:
    lines = [f"{name}:"]
    for key, values in groups.items():
        start = f'  "{key}": ['
        for index, value in enumerate(values):
            more = f"{value}]" if index == len(values) - 1 else f"{value}, "
            if len(start) + len(more.rstrip()) > 118:
                lines.append(start.rstrip())
                start = "    "
            start += more
        lines.append(start)
    return "\n".join(lines) + "\n"


def _read(package: str, name: str) -> Any:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f'{package} is not installed: pip install "tabstep[sagemaker]"')
    return json.loads((Path(spec.origin).parent / name).read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
