"""Notifications: what a bucket's owner asked to hear of arrives at a topic of the Log and at a webhook."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec

from mainspring.core.ports import Log
from tests.storage.objects.s3.conftest import started
from tests.storage.objects.s3.raw import Signer

PATIENCE_S = 60


async def webhook(received: asyncio.Queue[bytes]) -> asyncio.Server:
    """An endpoint that takes anything, but not at once."""
    refused = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
        body = await reader.readexactly(length)
        refused += 1
        status = b"503 Busy" if refused == 1 else b"204 No Content"
        writer.write(b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
        if refused > 1:
            received.put_nowait(body)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


async def test_an_event_is_told_to_a_topic_and_to_a_webhook_that_first_refuses(tmp_path: Path) -> None:
    received: asyncio.Queue[bytes] = asyncio.Queue()
    server = await webhook(received)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server, started(tmp_path, **{"objects.webhooks_allowed": "127.0.0.1"}) as running:
        s3 = Signer(running)
        await s3.send("PUT", "/told")
        await s3.send("PUT", "/told/before.jpg", body=b"earlier")
        rule = "<FilterRule><Name>suffix</Name><Value>.jpg</Value></FilterRule>"
        wanted = f"<Event>s3:ObjectCreated:*</Event><Filter><S3Key>{rule}</S3Key></Filter>"
        document = (
            "<NotificationConfiguration>"
            f"<TopicConfiguration><Id>t</Id><Topic>arn:aws:sns:us-east-1:000000000001:pictures</Topic>{wanted}</TopicConfiguration>"
            f"<QueueConfiguration><Queue>arn:mainspring:webhook:::{address}</Queue><Event>s3:ObjectRemoved:*</Event></QueueConfiguration>"
            "</NotificationConfiguration>"
        ).encode()
        assert (await s3.send("PUT", "/told", query=[("notification", "")], body=document)).status == 200
        back = await s3.send("GET", "/told", query=[("notification", "")])
        assert b"<Topic>arn:aws:sns:us-east-1:000000000001:pictures</Topic>" in back.body
        port: Any = await running.mainspring.service(Log)
        await port.append("objects.told", b"what somebody else wrote there")
        await s3.send("PUT", "/told/note.txt", body=b"no picture")
        await s3.send("PUT", "/told/a%20b.jpg", body=b"picture")
        await s3.send("DELETE", "/told/note.txt")
        consumer = port.consumer("test", ["pictures"])
        async with asyncio.timeout(PATIENCE_S):
            batch = await anext(aiter(consumer))
            removed = msgspec.json.decode(await received.get())
        await consumer.close()
        (created,) = [msgspec.json.decode(record.value)["Records"][0] for record in batch]
        assert (created["eventVersion"], created["eventName"]) == ("2.1", "ObjectCreated:Put")
        assert (created["s3"]["configurationId"], created["s3"]["bucket"]["name"]) == ("t", "told")
        assert (created["s3"]["object"]["key"], created["s3"]["object"]["size"]) == ("a+b.jpg", 7)
        assert removed["Records"][0]["s3"]["object"]["key"] == "note.txt"


async def test_a_notification_that_cannot_be_is_refused(tmp_path: Path) -> None:
    async with started(tmp_path) as running:
        s3 = Signer(running)
        await s3.send("PUT", "/told")
        for inner, code in (
            (
                "<TopicConfiguration><Topic>arn:aws:sns:::t</Topic><Event>s3:Sneeze</Event></TopicConfiguration>",
                "InvalidArgument",
            ),
            (
                "<TopicConfiguration><Topic>nowhere</Topic><Event>s3:ObjectCreated:*</Event></TopicConfiguration>",
                "InvalidArgument",
            ),
            ("<TopicConfiguration><Event>s3:ObjectCreated:*</Event></TopicConfiguration>", "MalformedXML"),
            *(
                (
                    f"<TopicConfiguration><Topic>arn:aws:sns:us-east-1:1:{topic}</Topic>"
                    "<Event>s3:ObjectCreated:*</Event></TopicConfiguration>",
                    "InvalidArgument",
                )
                for topic in ("objects.told", "objects.another", "links.clicks", "__consumer_offsets")
            ),
        ):
            document = f"<NotificationConfiguration>{inner}</NotificationConfiguration>".encode()
            assert (await s3.send("PUT", "/told", query=[("notification", "")], body=document)).code == code
