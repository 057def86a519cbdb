"""On a real socket: what the layers promise together with the server, which no in-process call can show."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from mainspring.core.http import Answer, Request, Response, Router, Stream
from mainspring.core.http.manners import Manners, MannersSettings
from tests.core.raw_http import PATIENCE_S, Wire, serving


class House:
    def __init__(self) -> None:
        self.waiting, self.closed = asyncio.Event(), asyncio.Event()
        router = Router()
        router.add("GET", "/events", self.events)
        router.add("GET", "/text", self.text)
        router.add("POST", "/small", self.small)
        router.add("GET", "/where/{rest:path}", self.where)
        self.app = Manners(
            router.application(body_bytes_max=1_000), MannersSettings(hosts=("test",), body_timeout_s=0.2)
        )

    async def events(self, request: Request) -> Answer:
        async def pieces() -> AsyncIterator[bytes]:
            self.waiting.set()
            try:
                await asyncio.Event().wait()
                yield b""
            finally:
                self.closed.set()

        return Stream(pieces(), "text/event-stream")

    async def text(self, request: Request) -> Answer:
        return Response(200, b"text " * 1_000, "text/plain")

    async def small(self, request: Request) -> Answer:
        return Response(200, await request.body(), "text/plain")

    async def where(self, request: Request) -> Answer:
        return Response.json([request.path_values["rest"], request.query, *request.client])


@pytest.fixture
def house() -> House:
    return House()


async def test_a_stream_begins_before_its_first_piece_and_ends_when_its_client_goes(house: House) -> None:
    async with serving(house.app) as server:
        wire = await Wire.connect(server)
        wire.ask("/events")
        async with asyncio.timeout(PATIENCE_S):
            head = await wire.reader.readuntil(b"\r\n\r\n")
            assert b"text/event-stream" in head
            await house.waiting.wait()
            wire.writer.close()
            await house.closed.wait()


async def test_a_body_that_is_too_long_is_refused_while_it_is_being_sent(house: House) -> None:
    async with serving(house.app) as server:
        wire = await Wire.connect(server)
        wire.writer.write(b"POST /small HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 2_000)
        assert (await wire.answer())[0] == 413
        wire = await Wire.connect(server)
        wire.writer.write(b"POST /small HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n")
        wire.writer.write(b"400\r\n" + b"x" * 1_024 + b"\r\n")
        assert (await wire.answer())[0] == 413


async def test_a_body_that_stops_arriving_is_given_up(house: House) -> None:
    async with serving(house.app) as server:
        wire = await Wire.connect(server)
        wire.writer.write(b"POST /small HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\nhalf")
        assert (await wire.answer())[0] == 408


async def test_head_options_and_compression_keep_the_connection_in_step(house: House) -> None:
    async with serving(house.app) as server:
        wire = await Wire.connect(server)
        wire.writer.write(b"HEAD /text HTTP/1.1\r\nhost: test\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            head = await wire.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200") and b"content-length: 5000" in head
        wire.ask("/text", "OPTIONS")
        status, headers, _ = await wire.answer()
        assert (status, headers["allow"]) == (204, "GET, HEAD, OPTIONS")
        wire.ask("/text", headers="accept-encoding: gzip\r\n")
        status, headers, body = await wire.answer()
        assert headers["content-encoding"] == "gzip" and len(body) < 200
        wire.ask("/nowhere")
        assert (await wire.answer())[0] == 404


async def test_an_encoded_path_reaches_its_handler_decoded_once(house: House) -> None:
    async with serving(house.app) as server:
        wire = await Wire.connect(server)
        wire.ask("/where/a%2Fb/%C3%A9%2520?q=%20")
        _, _, body = await wire.answer()
        rest, query, host, port = json.loads(body)
        assert (rest, query, host) == ("a/b/é%20", {"q": " "}, "127.0.0.1")
        assert isinstance(port, int)
