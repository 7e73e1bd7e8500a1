"""``tabstep open``: a page in a browser, served on loopback alone, so that it can also be reached through a tunnel."""

from __future__ import annotations

import http.server
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from tabstep.errors import UserError
from tabstep.run_files import PAGE

_HOST: Final = "127.0.0.1"


class _Pages(http.server.SimpleHTTPRequestHandler):
    """Serves the pages and pictures below one directory: nothing else of a run, such as its tables."""

    def do_GET(self) -> None:
        """Answer with a page or a picture, for any other path as if there were nothing."""
        if not self._allowed():
            self.send_error(404)
            return
        super().do_GET()

    def do_HEAD(self) -> None:
        """Answer as to a GET, without the content."""
        if not self._allowed():
            self.send_error(404)
            return
        super().do_HEAD()

    def _allowed(self) -> bool:
        # A page of another site that has this host's address under a name of its own must not read it.
        host = (self.headers.get("Host") or "").partition(":")[0]
        path = unquote(urlsplit(self.path).path)
        return host in (_HOST, "localhost") and path.endswith((PAGE, ".png")) and "/." not in path

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to the person."""


def page_server(directory: Path, port: int) -> http.server.ThreadingHTTPServer:
    """Return a server of the page in a directory, and of those below it; ``port=0`` takes a free one.

    Raises:
        UserError: there is no page, or the port is taken.
    """
    if not (directory / PAGE).is_file():
        if not directory.is_dir():
            raise UserError(f"{directory}: there is no such directory: name that of a run or a sweep")
        raise UserError(f"{directory}: has no {PAGE}: make it with tabstep report {directory}")
    try:
        return http.server.ThreadingHTTPServer((_HOST, port), partial(_Pages, directory=str(directory)))
    except OSError as error:
        raise UserError(f"--port: {port} cannot be used: {error.strerror}") from error


def page_address(server: http.server.ThreadingHTTPServer) -> str:
    """Return what to type into a browser."""
    return f"http://{_HOST}:{server.server_address[1]}/{PAGE}"
