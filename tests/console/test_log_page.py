"""The page of the log: create, produce, watch, browse, compaction foreseen, groups and transactions of real Kafka clients."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.console.conftest import Open
from tests.fixtures_server import Server
from tests.needs import need_module

pytestmark = pytest.mark.browser

CREATED = {"name": "orders", "partitions": 2}
ORDERS = [
    {"key": f"user-{n % 4}", "json": {"status": "paid" if n % 3 else "open", "amount": 10 * n}} for n in range(20)
]


def produce(server: Server, records: list[dict[str, Any]], topic: str = "orders") -> None:
    server.call("POST", f"api/log/topics/{topic}/records", {"records": records})


async def test_a_topic_is_created_and_what_is_produced_appears_live(open_page: Open, shoot) -> None:
    page = await open_page("log")
    form = page.get_by_role("region", name="Create a topic")
    await form.get_by_label("Name").fill("orders")
    await form.get_by_label("Partitions").fill("2")
    await form.get_by_role("button", name="Create").click()
    live = page.get_by_role("region", name="Live")
    await expect(page.get_by_test_id("tail-state")).to_contain_text("watching")
    produced = page.get_by_role("region", name="Produce")
    await produced.get_by_label("Key").fill("user-1")
    await produced.get_by_role("button", name="Header").click()
    await produced.get_by_label("Header 1", exact=True).fill("trace")
    await produced.get_by_label("Value of header 1").fill("abc")
    await produced.get_by_role("button", name="Produce", exact=True).click()
    await expect(page.get_by_test_id("produced")).to_contain_text("offset 0")
    tail = page.get_by_test_id("tail")
    await expect(tail).to_contain_text('{"status": "paid", "amount": 120}')
    await tail.get_by_role("button", name="Record").click()
    await expect(page.get_by_test_id("record")).to_contain_text('"amount": 120')
    await expect(page.get_by_test_id("record")).to_contain_text("trace: abc")
    await shoot(page, "log-live")
    await live.get_by_text("Hex", exact=True).click()
    await expect(tail).to_contain_text("7b 22 73 74")


async def test_a_tail_shows_only_what_its_filter_holds_and_a_bad_one_is_told(open_page: Open, server: Server) -> None:
    server.call("POST", "api/log/topics", CREATED)
    page = await open_page("log?topic=orders")
    live = page.get_by_role("region", name="Live")
    await live.get_by_label("Only where").fill("amount >")
    await expect(live.get_by_role("alert")).to_contain_text("filter")
    await live.get_by_label("Only where").fill("amount > 180")
    await expect(page.get_by_test_id("tail-state")).to_have_text("watching")
    produce(server, ORDERS)
    await expect(page.get_by_test_id("tail")).to_contain_text('"amount": 190')
    await expect(page.get_by_test_id("tail-state")).to_contain_text("1 since you look")


async def test_records_are_browsed_by_offset_and_time_and_found_by_a_filter(
    open_page: Open, server: Server, shoot
) -> None:
    server.call("POST", "api/log/topics", CREATED)
    produce(server, [{**one, "partition": 0, "timestamp_ms": 1_700_000_000_000 + n} for n, one in enumerate(ORDERS)])
    page = await open_page("log?topic=orders")
    await page.get_by_role("tab", name="Browse").click()
    browse = page.get_by_role("region", name="Browse")
    found = page.get_by_test_id("browsed")
    await expect(found.get_by_role("button", name="Record")).to_have_count(20)
    await choose(page, "Partition", "0")
    origin = browse.get_by_role("radiogroup", name="From")
    await origin.get_by_text("Offset").click()
    await browse.get_by_label("First offset").fill("18")
    await browse.get_by_role("button", name="Look").click()
    await expect(found.get_by_role("button", name="Record")).to_have_count(2)
    await origin.get_by_text("Time").click()
    await browse.get_by_label("First time").fill("2030-01-01T00:00:00")
    await browse.get_by_role("button", name="Look").click()
    await expect(browse).to_contain_text("There are no records here")
    await origin.get_by_text("Oldest").click()
    await browse.get_by_label("Only where").fill('status = "open" and amount > 100')
    await browse.get_by_role("button", name="Look").click()
    await expect(page.get_by_test_id("scanned")).to_have_text("3 of 20 records looked at")
    await shoot(page, "log-browse")


async def test_segments_and_what_compaction_would_keep_are_shown_and_settings_changed(
    open_page: Open, server: Server, shoot
) -> None:
    config = {"cleanup.policy": "compact", "segment.bytes": 1000}
    server.call("POST", "api/log/topics", {"name": "orders", "config": config})
    for one in ORDERS:
        produce(server, [one])
    page = await open_page("log?topic=orders")
    await page.get_by_role("tab", name="Storage").click()
    await expect(page.get_by_test_id("segments")).to_contain_text("00000000000000000000.log")
    await page.get_by_role("button", name="Preview").click()
    await expect(page.get_by_test_id("compaction")).to_contain_text("4 of 20 records stay")
    await expect(page.get_by_test_id("fates")).to_contain_text("superseded by 16")
    await shoot(page, "log-storage")
    await page.get_by_role("tab", name="Settings").click()
    settings = page.get_by_role("region", name="Settings")
    await settings.get_by_label("Value").fill("1000")
    await settings.get_by_role("button", name="Set", exact=True).click()
    row = page.get_by_test_id("settings").get_by_role("row", name="retention.ms")
    await expect(row).to_contain_text("1000")
    await settings.get_by_role("button", name="retention.ms back to its default").click()
    await expect(row).to_contain_text("604800000")
    await settings.get_by_label("Partitions").fill("3")
    await settings.get_by_role("button", name="Add").click()
    await expect(page.get_by_text("3 partitions")).to_be_visible()


async def test_a_groups_lag_is_shown_and_its_offsets_are_set(open_page: Open, server: Server, shoot) -> None:
    server.call("POST", "api/log/topics", CREATED)
    produce(server, [{**one, "partition": n % 2} for n, one in enumerate(ORDERS)])
    server.call("POST", "api/log/groups/billing/offsets", {"topic": "orders", "to": "earliest"})
    page = await open_page("log?part=groups")
    await expect(page.get_by_test_id("groups")).to_contain_text("20")
    await page.get_by_role("button", name="billing").click()
    reset = page.get_by_role("region", name="Set its offsets")
    await choose(page, "To", "so many on, or back")
    await reset.get_by_label("Records").fill("3")
    await reset.get_by_role("button", name="Set", exact=True).click()
    await expect(page.get_by_test_id("moved")).to_have_text("orders-0: 0 → 3; orders-1: 0 → 3")
    await expect(page.get_by_role("region", name="Lag")).to_contain_text("14 records lie ahead")
    await shoot(page, "log-group")


async def test_real_clients_are_seen_as_members_and_their_open_transaction_is_aborted(
    open_page: Open, server: Server, shoot
) -> None:
    need_module("confluent_kafka")
    server.call("POST", "api/log/topics", CREATED)
    produce(server, ORDERS)
    address = server.listener("kafka").partition("://")[2].rstrip("/")
    with reading(address), writing(address):
        page = await open_page("log?group=billing")
        await expect(page.get_by_test_id("members")).to_contain_text("orders: 0, 1")
        await expect(page.get_by_role("region", name="Lag")).to_contain_text("orders-1")
        await expect(page.get_by_role("button", name="Set", exact=True)).to_be_disabled()
        await shoot(page, "log-members")
        await page.get_by_role("button", name="All groups").click()
        await page.get_by_role("tab", name="Transactions").click()
        listed = page.get_by_test_id("transactions")
        await expect(listed).to_contain_text("Ongoing")
        await shoot(page, "log-transactions")
        page.on("dialog", lambda dialog: dialog.accept())
        await page.get_by_role("button", name="Abort copier").click()
        await expect(listed).to_contain_text("CompleteAbort")
        page = await open_page("log?tab=metrics")
        figures = page.get_by_role("region", name="Its own figures")
        for figure in ("log_transactions_aborted_total", "log_group_lag", "log_kafka_connections"):
            await expect(figures).to_contain_text(figure)
        await shoot(page, "log-metrics")


async def test_on_a_phone_in_the_dark_nothing_is_wider_than_the_page(open_page: Open, server: Server, shoot) -> None:
    server.call("POST", "api/log/topics", CREATED)
    produce(server, ORDERS)
    server.call("POST", "api/log/groups/billing/offsets", {"topic": "orders", "to": "earliest"})
    for path, name, shown in (
        ("log", "topics", "orders"),
        ("log?topic=orders", "topic", "watching"),
        ("log?part=groups", "groups", "billing"),
        ("log?group=billing", "group", "20 records lie ahead"),
        ("log?part=transactions", "transactions", "No producer has used"),
        ("log?tab=api", "code", "confluent-kafka"),
    ):
        page = await open_page(path, width=390, height=844, scheme="dark")
        await page.get_by_text(shown).first.wait_for()
        await fits(page)
        await shoot(page, f"log-phone-{name}")
        for tab, told in (("Browse", "of 20 records"), ("Storage", ".log"), ("Settings", "cleanup.policy")):
            if name == "topic":
                await page.get_by_role("tab", name=tab).click()
                await page.get_by_text(told).first.wait_for()
                await fits(page)
                await shoot(page, f"log-phone-{tab.lower()}")


async def test_a_topic_is_made_filled_and_opened_by_the_keyboard_alone(open_page: Open) -> None:
    page = await open_page("log")
    await page.get_by_label("Name").focus()
    await page.keyboard.type("keys")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("tail-state")).to_contain_text("watching")
    await page.get_by_role("region", name="Produce").get_by_label("Key").focus()
    await page.keyboard.type("k")
    await page.keyboard.press("Enter")
    record = page.get_by_test_id("tail").get_by_role("button", name="Record 0:0")
    await record.wait_for()
    await record.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("record")).to_be_visible()


async def test_a_listing_of_many_goes_on_and_back(open_page: Open, server: Server) -> None:
    for n in range(51):
        server.call("POST", "api/log/topics", {"name": f"topic-{n:02}"})
    page = await open_page("log")
    listed = page.get_by_test_id("topics")
    await expect(listed.get_by_role("row")).to_have_count(51)
    await page.get_by_role("button", name="More").click()
    await expect(listed).to_contain_text("topic-50")
    await page.get_by_role("button", name="Back").click()
    await expect(listed).to_contain_text("topic-00")


async def fits(page: Page) -> None:
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


async def choose(page: Page, label: str, option: str) -> None:
    await page.get_by_role("combobox", name=label, exact=True).click()
    await page.get_by_role("option", name=option, exact=True).click()


PATIENCE_S = 60


@contextmanager
def reading(address: str) -> Iterator[None]:
    """A consumer of a real client, which owns all partitions before the block begins."""
    from confluent_kafka import Consumer

    options = {"bootstrap.servers": address, "group.id": "billing", "auto.offset.reset": "earliest"}
    consumer = Consumer(options)
    consumer.subscribe(["orders"])
    until = time.monotonic() + PATIENCE_S
    while len(consumer.assignment()) < 2 and time.monotonic() < until:
        consumer.poll(0.1)
    try:
        yield
    finally:
        consumer.close()


@contextmanager
def writing(address: str) -> Iterator[None]:
    """A transaction of a real client, open during the block."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": address, "transactional.id": "copier"})
    producer.init_transactions(PATIENCE_S)
    producer.begin_transaction()
    producer.produce("orders", b"held back", partition=0)
    producer.flush(PATIENCE_S)
    yield
