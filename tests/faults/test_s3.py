"""Tables that S3 does not give: try again where S3 or the network is at fault, else a line that says why."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.test_bad_input import Commands

ANSWERS = {  # status and error code: the exit code that is due
    (503, "SlowDown"): 75,  # after Arrow's own retries of about five seconds
    (403, "AccessDenied"): 2,
    (404, "NoSuchBucket"): 2,
}


class Refusing(BaseHTTPRequestHandler):
    status, code = 200, ""

    def do_GET(self) -> None:
        body = f"<Error><Code>{self.code}</Code><Message>it says so</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 the name that http.server calls

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"s3://key:secret@bucket/t?region=eu-central-1&scheme=http&endpoint_override=127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("status", "code"), ANSWERS)
def test_a_table_that_s3_does_not_give(
    status: int,
    code: str,
    address: str,
    commands: Commands,
    finished: Path,
    tmp_path: Path,
    ends: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Refusing, "status", status)
    monkeypatch.setattr(Refusing, "code", code)
    (tmp_path / "out").symlink_to(finished / "out")
    ended = commands.predict(tmp_path, address)
    assert ended.code == ANSWERS[status, code], ended.err
    assert len(ended.said) == 1, ended.err
    assert "damaged" not in ended.err
    ends(str(ended.code))
