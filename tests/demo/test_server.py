from __future__ import annotations

import _thread
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

from erase.demo.page import page_of
from erase.demo.server import Server, is_local, is_own
from erase.demo.show import Show
from erase.runtime.errors import UserError


@pytest.fixture
def server(show: Show) -> Iterator[Server]:
    with Server("127.0.0.1", 0) as made:
        made.show, made.page = show, page_of(show).encode()
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def request(server: Server, method: str, path: str, body: object = None, **headers: str) -> Any:
    connection = HTTPConnection(*server.server_address[:2], timeout=30)
    text = None if body is None else json.dumps(body)
    connection.request(method, path, text, headers)
    answer: HTTPResponse = connection.getresponse()
    return answer.status, answer.read().decode(), answer.headers


def ask(server: Server, prompt: str, seed: object = "0", **headers: str) -> list[dict[str, Any]]:
    asked = {"prompt": prompt, "seed": seed}
    status, text, _ = request(server, "POST", "/images", asked, **headers)
    assert status == 200
    return [json.loads(line) for line in text.splitlines()]


def test_the_page_and_what_it_may_do(server: Server) -> None:
    status, text, headers = request(server, "GET", "/")
    assert status == 200 and text.count('<figure class="column">') == 2
    assert 'name="prompt" value="a church"' in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for held in ("http:", "https:", '<link rel="stylesheet', " src="):
        assert held not in text
    assert request(server, "GET", "/run.json")[0] == 404
    assert request(server, "GET", "/../pyproject.toml")[0] == 404


def test_a_prompt_is_drawn_line_by_line(server: Server) -> None:
    told = ask(server, "a church", Origin=server.url)
    assert [next(iter(event)) for event in told] == ["column"] * 8 + ["done"]
    assert [event["column"] for event in told if "image" in event] == [0, 1]


def test_a_mistake_is_told_on_the_page(server: Server) -> None:
    assert ask(server, "") == [
        {"problem": "There is no prompt: type what the picture should show."}
    ]
    [wrong] = ask(server, "a church", "x")
    assert "seed 'x'" in wrong["problem"]


def test_a_request_of_another_page_is_refused(server: Server) -> None:
    asked, port = {"prompt": "a church", "seed": "0"}, server.server_address[1]
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{port + 1}"},
        {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"},
    ):
        assert request(server, "POST", "/images", asked, **headers)[0] == 403
    assert request(server, "GET", "/", Host=f"evil.example:{port}")[0] == 403
    assert request(server, "POST", "/elsewhere", asked)[0] == 400
    assert request(server, "POST", "/images", "x" * 2**17)[0] == 400


@pytest.mark.parametrize(
    ("host", "origin", "served", "own"),
    [
        ("127.0.0.1:8000", None, "127.0.0.1", True),
        ("localhost:8000", "http://localhost:8000", "127.0.0.1", True),
        # As through ssh -L 9000:localhost:8000.
        ("localhost:9000", "http://localhost:9000", "127.0.0.1", True),
        ("[::1]:8000", "http://[::1]:8000", "::1", True),
        ("LOCALHOST:8000", "http://localhost:8000", "127.0.0.1", True),
        ("192.168.0.5:8000", None, "127.0.0.1", False),
        ("192.168.0.5:8000", "http://192.168.0.5:8000", "0.0.0.0", True),
        ("studio.lan:8000", "http://studio.lan:8000", "studio.lan", True),
        ("evil.example:8000", "http://evil.example:8000", "0.0.0.0", False),
        ("evil.example", None, "studio.lan", False),
        ("localhost.evil.example", None, "127.0.0.1", False),
        ("127.0.0.1:8000", "https://127.0.0.1:8000", "127.0.0.1", False),
        ("127.0.0.1:8000", "http://localhost:8000", "127.0.0.1", False),
        ("evil@127.0.0.1:8000", "http://evil@127.0.0.1:8000", "127.0.0.1", False),
        ("", None, "127.0.0.1", False),
        ("[", None, "0.0.0.0", False),
    ],
)
def test_what_is_the_pages_own(host: str, origin: str | None, served: str, own: bool) -> None:
    assert is_own(host, origin, served) == own


def test_which_addresses_let_nobody_else_in() -> None:
    assert all(map(is_local, ("127.0.0.1", "localhost", "::1", "127.1.2.3")))
    assert not any(map(is_local, ("0.0.0.0", "::", "192.168.0.5", "studio.lan", "")))


def test_who_ends_the_connection_ends_the_work(server: Server, show: Show) -> None:
    server.show = replace(show, sampler=replace(show.sampler, steps=999))
    body = json.dumps({"prompt": "a church", "seed": "0"})
    head = f"POST /images HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    address = server.server_address[:2]
    with socket.create_connection(address) as first, first.makefile("rb") as drawn:
        first.sendall((head + body).encode())
        assert any(b'"step"' in line for line in drawn)
        with socket.create_connection(address) as second, second.makefile("rb") as told:
            second.sendall((head + body).encode())
            assert any(b'"waiting": 1' in line for line in told)
    assert server.turns.ended(20)


def test_a_length_that_is_no_length_is_refused(server: Server) -> None:
    for length in ("9" * 5000, "99999", "-1", "٣"):
        connection = HTTPConnection(*server.server_address[:2], timeout=30)
        connection.putrequest("POST", "/images")
        connection.putheader("Content-Length", length.encode())
        connection.endheaders()
        assert connection.getresponse().status == 400
        connection.close()


def test_more_connections_than_there_is_room_for_are_closed(server: Server) -> None:
    server.open = threading.BoundedSemaphore(1)
    address = server.server_address[:2]
    with socket.create_connection(address, 30), socket.create_connection(address, 30) as second:
        assert second.recv(1) == b""
    for _ in range(200):  # until the first one's thread has seen its end
        if server.open.acquire(blocking=False):
            server.open.release()
            break
        time.sleep(0.05)
    assert request(server, "GET", "/")[0] == 200


def test_ctrl_c_ends_it(show: Show) -> None:
    # A shell's background jobs ignore it.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Server("127.0.0.1", 0) as server:

            def interrupt() -> None:
                assert request(server, "GET", "/")[0] == 200
                _thread.interrupt_main()

            threading.Thread(target=interrupt, daemon=True).start()
            server.run(show, "page")
            address = server.server_address[:2]
    finally:
        signal.signal(signal.SIGINT, handler)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_an_address_that_is_taken_or_wrong_is_one_sentence() -> None:
    with Server("127.0.0.1", 0) as server, pytest.raises(UserError, match="choose another --port"):
        Server("127.0.0.1", server.server_address[1])
    for port in (-1, 65536):
        with pytest.raises(UserError, match=f"--port {port} is out of range"):
            Server("127.0.0.1", port)
    with pytest.raises(UserError, match="another --host"):
        Server("no.such.host.invalid", 0)
