"""The page and the pictures over HTTP, to this machine alone unless somebody asks for more.

    GET  /         the page
    POST /images   {prompt, seed} -> a JSON object a line, as they come to pass: ``waiting``, a
                   ``step``, an ``image``, then ``done`` or the ``problem``

Whoever ends the connection ends the work: there is nothing else to cancel, and nothing is left
behind by a tab that was closed.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from socketserver import ThreadingTCPServer
from threading import BoundedSemaphore, Event
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from erase.demo.draw import check_shot, draw
from erase.demo.turns import Turns
from erase.runtime.errors import UserError, reason

if TYPE_CHECKING:
    from erase.demo.show import Show

LARGEST = 2**16
"""Bytes of a request."""
CONNECTIONS = 64
"""Most that are open at a time; further ones are closed at once."""
SILENCE = 30.0
"""Seconds after which a connection that says nothing is closed."""
ENDING = 60.0
"""Seconds that a step, or a judge, may take to end."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src "
    "'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Gone(Exception):
    """Nobody waits for the answer any more."""


class Server(ThreadingTCPServer):
    """Listens from the start, and answers as soon as it is run.

    Attributes:
        show: what is drawn with.
        page: as HTML, encoded.
        host: address as the user gave it.
        turns: whose picture is made, and who waits.
        stopped: set when all is to end.
        open: counts connections.
    """

    daemon_threads = allow_reuse_address = True
    show: Show
    page: bytes

    def __init__(self, host: str, port: int) -> None:
        self.host, self.turns, self.stopped = host, Turns(), Event()
        self.open = BoundedSemaphore(CONNECTIONS)
        if not 0 <= port < 2**16:
            raise UserError(f"--port {port} is out of range: give one from 0 to 65535.")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self.address_family, *_, address = found[0]
            super().__init__(cast(Any, address), Handler)
        except (OSError, UnicodeError) as error:
            raise UserError(
                f"{host}, port {port}, can't be listened at ({reason(error)}): choose another "
                "--port, 0 for a free one, or another --host."
            ) from error

    @property
    def url(self) -> str:
        """Where a browser finds the page."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.server_address[1]}"

    def run(self, show: Show, page: str) -> None:
        """Serves until Ctrl-C; then ends the work that is going on and lets go of the port."""
        self.show, self.page = show, page.encode()
        try:
            self.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            self.stopped.set()
            self.server_close()
            self.turns.ended(ENDING)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answers in a thread of its own, of which there are so many."""
        if self.open.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Makes room for another at its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.open.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a connection that broke off, which is a browser's right."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    timeout = SILENCE

    def do_GET(self) -> None:
        """The page."""
        if not self._trusted():
            return
        if self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND, "There is only one page: /")
            return
        self._begin("text/html; charset=utf-8", {"Content-Length": str(len(self.server.page))})
        self.wfile.write(self.server.page)

    def do_POST(self) -> None:
        """Pictures of a prompt."""
        if not self._trusted():
            return
        length = self.headers.get("Content-Length", "")
        known = re.fullmatch("[0-9]{1,9}", length)
        if self.path != "/images" or not known or int(length) > LARGEST:
            self.send_error(HTTPStatus.BAD_REQUEST, "Not a request of the page")
            return
        try:
            asked = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            self.send_error(HTTPStatus.BAD_REQUEST, "The request is no JSON")
            return
        self._begin("application/x-ndjson", {})
        try:
            self._draw(asked)
        except Gone:
            return

    def _draw(self, asked: object) -> None:
        show = self.server.show
        try:
            with self.server.turns.turn(lambda ahead: self._tell({"waiting": ahead})):
                # Tokenizers keep how they cut and fill up, so that two threads can't share one.
                shot = check_shot(asked, show.columns[0].model.reader)
                draw(show, shot, self._tell)
        except UserError as error:
            self._tell({"problem": str(error)})
        else:
            self._tell({"done": True})

    def _tell(self, event: Mapping[str, Any]) -> None:
        """Sends a line.

        Raises:
            Gone: there is nobody to send it to.
        """
        if self.server.stopped.is_set() or _closed(self.connection):
            raise Gone
        self.wfile.write(json.dumps(event).encode() + b"\n")

    def _begin(self, kind: str, more: Mapping[str, str]) -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in {"Content-Type": kind, **HEADERS, **more}.items():
            self.send_header(name, value)
        self.end_headers()

    def _trusted(self) -> bool:
        """Refuses what a page of somebody else's may have sent."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        if is_own(host, origin, self.server.host):
            return True
        self.send_error(HTTPStatus.FORBIDDEN, f"Open {self.server.url} itself")
        return False

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the page says what there is to say."""


def is_own(host: str, origin: str | None, served: str) -> bool:
    """Whether a request comes from the page itself, or from no page.

    A page elsewhere gives itself away by its ``Origin``. One whose name was pointed at this machine
    after it was loaded (DNS rebinding) has an origin that fits, but its name as ``Host``: a name
    that is not ours is refused. Numbers can't be pointed elsewhere, so any address of this machine
    will do where it is open to others.

    Args:
        host, origin: of the request's headers.
        served: the address that is listened at, as the user gave it.
    """
    name = _name(host)
    if name is None or (origin is not None and origin.lower() != f"http://{host.lower()}"):
        return False
    if name in ("localhost", served.lower()):
        return True
    return _is_number(name) if not is_local(served) else is_local(name)


def is_local(name: str) -> bool:
    """Whether an address is reached from this machine alone."""
    return name == "localhost" or (_is_number(name) and ip_address(name).is_loopback)


def _name(host: str) -> str | None:
    """The name in a ``Host`` header, without its port; None where it is no such header."""
    try:
        return None if "@" in host else urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_number(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _closed(connection: socket.socket) -> bool:
    """Whether the other side has ended a connection."""
    ready, _, _ = select.select([connection], [], [], 0)
    return bool(ready) and not connection.recv(1, socket.MSG_PEEK)
