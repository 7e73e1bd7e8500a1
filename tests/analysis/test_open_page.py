"""The page over HTTP, and nothing but it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from tabstep import cli
from tabstep.analysis.open_page import page_address, page_server
from tabstep.errors import UserError


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    (tmp_path / "report.html").write_text("<p>page")
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "report.html").write_text("<p>trial")
    (tmp_path / ".secret").mkdir()
    (tmp_path / ".secret" / "report.html").write_text("<p>hidden")
    (tmp_path / "report.json").write_text("{}")
    with page_server(tmp_path, 0) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def get(server: ThreadingHTTPServer, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])
    connection.request("GET", path, headers={"Host": host})
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_pages_are_served_and_nothing_else(server: ThreadingHTTPServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert page_address(server).endswith("/report.html")
    assert get(server, "/report.html") == (200, "<p>page")
    assert get(server, "/0/report.html#scores") == (200, "<p>trial")
    for path in ("/", "/report.json", "/.secret/report.html", "/%2e%2e/report.html", "/0/"):
        assert get(server, path)[0] == 404, path
    assert get(server, "/report.html", host="evil.example")[0] == 404


def test_missing_page_and_taken_port_are_one_line(
    server: ThreadingHTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    assert cli.main(["open", str(empty)]) == 2
    assert "there is no such directory" in capsys.readouterr().err
    empty.mkdir()
    assert cli.main(["open", str(empty)]) == 2
    assert f"has no report.html: make it with tabstep report {empty}" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"--port: .* cannot be used"):
        page_server(tmp_path, server.server_address[1])
