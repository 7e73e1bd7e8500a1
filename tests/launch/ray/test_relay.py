from __future__ import annotations

import io
from pathlib import Path

from tabstep.launch.ray.relay import Tail


def test_whole_lines_are_shown_once(tmp_path: Path) -> None:
    file, shown = tmp_path / "output.log", io.StringIO()
    tail = Tail(file, shown)
    tail.show()  # nobody has written yet
    with open(file, "ab", buffering=0) as stream:
        stream.write("Köln\nhal".encode())
        tail.show()
        assert shown.getvalue() == "Köln\n"
        tail.show()
        stream.write(b"f\nlast\n")
        tail.show()
    assert shown.getvalue() == "Köln\nhalf\nlast\n"
