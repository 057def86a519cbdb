"""The page of the object store: buckets as folders of files, versions, links, a policy that is tried, and disks."""

import re
import shutil
from pathlib import Path

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open
from tests.fixtures_server import Server

pytestmark = pytest.mark.browser


@pytest.fixture
def disks(tmp_path: Path) -> list[Path]:
    return [tmp_path / f"disk{number}" for number in range(6)]


@pytest.fixture
def server_settings(disks: list[Path]) -> tuple[str, ...]:
    """Six disks in three zones, each of two directories."""
    room = ("free_bytes_min=0", "objects.free_share_min=0", "objects.free_bytes_enough=0")
    zones = "north,north,south,south,west,west"
    return (*room, f"objects.directories={','.join(map(str, disks))}", f"objects.zones={zones}")


TEXT = "A file that was dropped here"


async def test_a_file_is_uploaded_looked_at_shared_and_brought_back(open_page: Open, shoot) -> None:
    page = await open_page("objects")
    await page.get_by_label("New bucket").fill("photos")
    await page.get_by_label("keep versions").check()
    await page.get_by_role("button", name="Create").click()
    files = page.get_by_label("Files to upload")
    await files.set_input_files([{"name": "note.txt", "mimeType": "text/plain", "buffer": TEXT.encode()}])
    await page.get_by_test_id("files").get_by_role("button", name="note.txt").click()
    await expect(page.get_by_test_id("preview")).to_have_text(TEXT)
    await files.set_input_files([{"name": "note.txt", "mimeType": "text/plain", "buffer": b"newer"}])
    await expect(page.get_by_test_id("preview")).to_have_text("newer")
    versions = page.get_by_test_id("versions")
    await expect(versions.get_by_role("row")).to_have_count(2)
    await page.get_by_role("button", name="Share").click()
    link = page.get_by_test_id("link")
    await expect(link).to_contain_text("X-Amz-Signature")
    await shoot(page, "objects-file")
    await versions.get_by_role("button", name="Restore").click()
    await expect(page.get_by_test_id("preview")).to_have_text(TEXT)
    await page.get_by_role("button", name="Delete", exact=True).click()
    await expect(page.get_by_text("deleted; its versions are still there")).to_be_visible()
    await expect(page.get_by_text("Nothing here yet.")).to_be_visible()


DROP = """(node) => {
  const data = new DataTransfer()
  data.items.add(new File([new Uint8Array(9 << 20)], "large.bin", { lastModified: 1 }))
  node.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }))
}"""


async def test_a_large_file_goes_straight_to_s3_in_parts_and_goes_on_where_it_was_interrupted(
    open_page: Open, server: Server, shoot
) -> None:
    page = await open_page("objects")
    await page.get_by_label("New bucket").fill("large")
    await page.get_by_role("button", name="Create").click()
    s3 = server.listener("s3")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "PUT" else None)
    await page.route("**/*partNumber=2*", lambda route: route.abort())
    await page.get_by_test_id("drop").evaluate(DROP)
    await expect(page.get_by_test_id("drop").get_by_role("alert")).to_contain_text("go on where it ended")
    assert sorted(re.findall(r"partNumber=\d", " ".join(sent))) == ["partNumber=1", "partNumber=2"]
    await shoot(page, "objects-interrupted")
    await page.unroute("**/*partNumber=2*")
    sent.clear()
    await page.get_by_test_id("drop").evaluate(DROP)
    row = page.get_by_test_id("files").get_by_role("row", name="large.bin")
    await expect(row).to_contain_text("9.0 MiB")
    assert len(sent) == 1 and sent[0].startswith(s3) and "partNumber=2" in sent[0]


async def test_a_bucket_with_versions_is_seen_as_it_was_from_its_first_moment_on(
    open_page: Open, server: Server, shoot
) -> None:
    server.call("POST", "api/objects/buckets", {"name": "past", "versioning": True})
    server.call("PUT", "api/objects/buckets/past/objects/kept", "hello")
    page = await open_page("objects?bucket=past")
    kept = page.get_by_test_id("files").get_by_role("button", name="kept")
    await expect(kept).to_be_visible()
    slider = page.get_by_role("slider")
    await slider.focus()
    await page.keyboard.press("Home")
    await expect(page.get_by_text("Nothing here then.")).to_be_visible()
    await expect(page.get_by_test_id("moment")).not_to_have_text("as of now")
    await expect(page.get_by_test_id("drop")).to_be_hidden()
    await shoot(page, "objects-past")
    await page.keyboard.press("End")
    await expect(page.get_by_test_id("moment")).to_have_text("as of now")
    await expect(kept).to_be_visible()


async def test_what_others_do_to_a_bucket_shows_by_itself(open_page: Open, server: Server) -> None:
    server.call("POST", "api/objects/buckets", {"name": "shared"})
    page = await open_page("objects?bucket=shared")
    await expect(page.get_by_text("Nothing here yet.")).to_be_visible()
    server.call("PUT", "api/objects/buckets/shared/objects/from-elsewhere", "hello")
    await page.get_by_test_id("files").get_by_role("button", name="from-elsewhere").click()
    await expect(page.get_by_text("7 B,")).to_be_visible()
    server.call("PUT", "api/objects/buckets/shared/objects/from-elsewhere", "hello again")
    await expect(page.get_by_text("13 B,")).to_be_visible()


async def test_a_policy_is_tried_before_it_is_set(open_page: Open, shoot) -> None:
    page = await open_page("objects")
    await page.get_by_label("New bucket").fill("site")
    await page.get_by_role("button", name="Create").click()
    policy = page.get_by_role("region", name="Policy")
    await policy.get_by_role("button", name="An example").click()
    await policy.get_by_role("button", name="Ask").click()
    verdict = page.get_by_test_id("verdict")
    await expect(verdict).to_contain_text("by the statement PublicRead")
    await policy.get_by_label("on", exact=True).fill("secret.txt")
    await policy.get_by_role("button", name="Ask").click()
    await expect(verdict).to_contain_text("Refused")
    await shoot(page, "objects-policy")
    await policy.get_by_label("Policy document").fill("{}")
    await policy.get_by_role("button", name="Set").click()
    await expect(page.get_by_role("alert").first).to_be_visible()


async def test_a_disk_that_is_removed_is_seen_and_what_it_held_is_healed(
    open_page: Open, server: Server, disks: list[Path], shoot
) -> None:
    server.call("POST", "api/objects/buckets", {"name": "kept"})
    for number in range(3):
        server.call("PUT", f"api/objects/buckets/kept/objects/{number}", "x" * 300_000)
    page = await open_page("objects?part=disks")
    grid = page.get_by_test_id("disks")
    await expect(grid).to_have_count(3)
    await expect(page.get_by_test_id("heal")).to_contain_text("Everything has all of its shards")
    await expect(page.get_by_text("live", exact=True)).to_have_count(6)
    shutil.rmtree(disks[4])
    await page.get_by_role("button", name="Heal now").click()
    await expect(page.get_by_text("lost", exact=True)).to_have_count(1)
    await expect(page.get_by_test_id("heal")).to_contain_text("were healed")
    await expect(page.get_by_test_id("heal")).to_contain_text("Everything has all of its shards")
    await shoot(page, "objects-disks")
    await page.get_by_role("button", name="Scrub").click()
    await expect(page.get_by_test_id("scrubbed")).to_contain_text("0 bad")
    for number in range(3):
        assert server.call("GET", f"api/objects/buckets/kept/objects/{number}") == "x" * 300_000


async def test_the_page_works_on_a_phone_and_in_the_dark(open_page: Open, shoot) -> None:
    page = await open_page("objects", width=390, height=800, scheme="dark")
    await page.get_by_label("New bucket").fill("phone")
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_test_id("drop")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await shoot(page, "objects-phone")
