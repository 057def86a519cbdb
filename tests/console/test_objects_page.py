"""The page of the object store: buckets as folders of files, versions, links, a policy that is tried, and disks."""

import pytest
from playwright.async_api import expect

from tests.console.conftest import Open

pytestmark = pytest.mark.browser

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


async def test_a_large_file_goes_up_in_parts_by_being_dropped(open_page: Open, shoot) -> None:
    page = await open_page("objects")
    await page.get_by_label("New bucket").fill("large")
    await page.get_by_role("button", name="Create").click()
    drop = page.get_by_test_id("drop")
    data = await page.evaluate_handle(
        """() => {
          const data = new DataTransfer()
          data.items.add(new File([new Uint8Array(9 << 20)], "large.bin"))
          return data
        }"""
    )
    await drop.dispatch_event("drop", {"dataTransfer": data})
    row = page.get_by_test_id("files").get_by_role("row", name="large.bin")
    await expect(row).to_contain_text("9.0 MiB")


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


async def test_disks_are_seen_healed_and_scrubbed(open_page: Open, shoot) -> None:
    page = await open_page("objects?part=disks")
    await expect(page.get_by_test_id("disks")).to_contain_text("live")
    await page.get_by_role("button", name="Scrub").click()
    await expect(page.get_by_test_id("scrubbed")).to_contain_text("0 bad")
    await expect(page.get_by_test_id("heal")).to_contain_text("Everything has all of its shards")
    await shoot(page, "objects-disks")


async def test_the_page_works_on_a_phone_and_in_the_dark(open_page: Open, shoot) -> None:
    page = await open_page("objects", width=390, height=800, scheme="dark")
    await page.get_by_label("New bucket").fill("phone")
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_test_id("drop")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await shoot(page, "objects-phone")
