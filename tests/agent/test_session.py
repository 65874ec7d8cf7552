"""Opening a session: every way it can be refused says what to do."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgpack
import pytest

from roadworthy.agent.session import Session, free_port, parse_address
from roadworthy.runtime.errors import BadInput


@contextmanager
def listening(version: str | None) -> Iterator[str]:
    """Something on a port: says its CARLA version, or nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            unpacker = msgpack.Unpacker()
            while data := connection.recv(4096):
                unpacker.feed(data)
                for _, number, _, _ in unpacker:
                    if version is not None:
                        connection.sendall(msgpack.packb([1, number, None, [[1, version]]]))

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def test_nobody_there() -> None:
    with pytest.raises(BadInput, match=r"no CARLA server answers at 127\.0\.0\.1") as refusal:
        Session.open(f"127.0.0.1:{free_port()}")
    assert "roadworthy town" in str(refusal.value)
    assert "leave --carla out" in str(refusal.value)


def test_something_else_listens() -> None:
    with listening(None) as address, pytest.raises(BadInput, match="does not answer as a CARLA server"):
        Session.open(address, timeout_s=1.0)


def test_another_version() -> None:
    with listening("0.9.15") as address, pytest.raises(BadInput, match=r"version 0\.9\.15, the installed client is 0\.9\.16"):
        Session.open(address, timeout_s=2.0)


@pytest.mark.parametrize(
    "address", ["", ":2000", "localhost:", "localhost:x", "localhost:70000", "localhost:0", "localhost:65535"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(BadInput, match="HOST:PORT"):
        parse_address(address)


def test_addresses() -> None:
    assert parse_address("localhost:2000") == ("localhost", 2000)
    assert parse_address("10.0.0.7") == ("10.0.0.7", 2000)
