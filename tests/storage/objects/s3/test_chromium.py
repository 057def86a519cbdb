"""A real browser at the S3 door: a page of one bucket's site reads another origin, and uploads by a signed form."""

import json
from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from tests.needs import need_program
from tests.storage.objects.s3.raw import Signer
from tests.storage.objects.s3.running import Running, aside

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><title>A site in a bucket</title><p id="read">nothing yet</p>
<form method="post" enctype="multipart/form-data" action="ADDRESS/data">
FIELDS<input type="file" name="file"><button>Send</button></form>
<script>
fetch("ADDRESS/data/note.txt").then((answer) => answer.text(), (error) => "refused: " + error.name)
  .then((text) => { document.getElementById("read").textContent = text })
</script>"""
CORS = b"""<CORSConfiguration><CORSRule><AllowedOrigin>http://site.s3-website.localhost:*</AllowedOrigin>
<AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"""


async def test_a_browser_reads_across_origins_and_uploads_by_a_form(running: Running, tmp_path: Path) -> None:
    chromium = need_program("chromium", "chromium-browser", "google-chrome")
    s3, port = Signer(running), running.host.rpartition(":")[2]
    site = f"http://site.s3-website.localhost:{port}/"

    def furnish() -> None:
        client = running.client()
        for bucket in ("site", "data"):
            client.create_bucket(Bucket=bucket)
            reads = {
                "Effect": "Allow",
                "Principal": "*",
                "Action": "s3:GetObject",
                "Resource": f"arn:aws:s3:::{bucket}/*",
            }
            client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [reads]}))
        client.put_bucket_website(Bucket="site", WebsiteConfiguration={"IndexDocument": {"Suffix": "index.html"}})
        client.put_object(Bucket="data", Key="note.txt", Body=b"read across origins", ContentType="text/plain")
        signed = client.generate_presigned_post(
            "data", "up/${filename}", {"success_action_redirect": site}, [{"success_action_redirect": site}]
        )["fields"]
        fields = "".join(f"<input type=hidden name='{name}' value='{value}'>" for name, value in signed.items())
        page = PAGE.replace("ADDRESS", running.address).replace("FIELDS", fields)
        client.put_object(Bucket="site", Key="index.html", Body=page.encode(), ContentType="text/html")

    await aside(furnish)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page()
        page.set_default_timeout(60_000)
        await page.goto(site)
        await expect(page.locator("#read")).to_have_text("refused: TypeError", timeout=60_000)
        await s3.send("PUT", "/data", query=[("cors", "")], body=CORS)
        await page.reload()
        await expect(page.locator("#read")).to_have_text("read across origins", timeout=60_000)
        await page.set_input_files(
            "input[type=file]", [{"name": "a b.txt", "mimeType": "text/plain", "buffer": b"by a form"}]
        )
        await page.get_by_role("button", name="Send").click()
        await page.wait_for_url("**/?bucket=data&key=up%2Fa+b.txt&etag=*")
        await browser.close()
    assert (await s3.send("GET", "/data/up/a%20b.txt")).body == b"by a form"
