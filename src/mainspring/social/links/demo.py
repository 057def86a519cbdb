"""Lifelike links and visits for a running server: a few popular links, many rare ones, browsers, phones and bots."""

import json
import time
from collections.abc import Callable
from http.client import HTTPConnection
from random import Random
from urllib.parse import urlsplit

PLACES = (
    ("https://en.wikipedia.org/wiki/Mainspring", "What a mainspring is", ("watches", "reading")),
    ("https://www.python.org/downloads/", "Python", ("tools",)),
    ("https://www.openstreetmap.org/", "The map", ("tools", "maps")),
    ("https://datatracker.ietf.org/doc/html/rfc9457", "Problem details", ("reading", "rfc")),
    ("https://datatracker.ietf.org/doc/html/rfc9562", "UUIDs", ("reading", "rfc")),
    ("https://www.postgresql.org/docs/current/mvcc.html", "MVCC", ("reading", "databases")),
    ("https://www.sqlite.org/wal.html", "Write-ahead logging", ("reading", "databases")),
    ("https://kafka.apache.org/documentation/", "The log", ("tools", "databases")),
    ("https://www.gutenberg.org/", "Free books", ("books",)),
    ("https://archive.org/", "The archive", ("books", "history")),
)
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
)  # fmt: skip
WEIGHTS = (30, 14, 8, 26, 18, 4)
REFERRERS = (
    "",
    "",
    "https://news.ycombinator.com/",
    "https://www.reddit.com/",
    "https://t.co/",
    "https://duckduckgo.com/",
)
LANGUAGES = ("en-GB,en;q=0.9", "de-AT,de;q=0.9,en;q=0.5", "fr-FR,fr;q=0.9", "pt-BR,pt;q=0.9", "ja-JP,ja;q=0.9")


def run(
    address: str,
    listeners: dict[str, str],
    credentials: dict[str, str],
    rate: float,
    seconds: float,
    tell: Callable[[int], None],
) -> str:
    """Makes ten links, then about `rate` visits a second for `seconds`; `tell` gets the number of visits so far.

    Raises `RuntimeError` where the listener is off or gives an answer that is not expected.
    """
    if "links" not in listeners:
        raise RuntimeError("the links listener is off; `mainspring systems` says why")
    random = Random()
    links = [{"url": url, "title": title, "tags": tags, "find_if_exists": True} for url, title, tags in PLACES]
    headers = {"authorization": f"Bearer {credentials['token']}", "content-type": "application/json"}
    main = HTTPConnection(urlsplit(address).netloc, timeout=30)
    main.request("POST", "/api/links/bulk", json.dumps({"links": links}), headers)
    made = main.getresponse()
    told = made.read()
    if made.status != 200:
        raise RuntimeError(f"the links could not be made: {told.decode()[:300]}")
    codes = [one["link"]["code"] for one in json.loads(told)["results"]]
    popularity = [1 / (rank + 1) for rank in range(len(codes))]
    visitors = HTTPConnection(urlsplit(listeners["links"]).netloc, timeout=30)
    began, visits = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        (code,), (agent,) = random.choices(codes, popularity), random.choices(AGENTS, WEIGHTS)
        visitor = {"user-agent": agent, "accept-language": random.choice(LANGUAGES)}
        if referrer := random.choice(REFERRERS):
            visitor["referer"] = referrer
        visitors.request("GET", f"/{code}{'?qr=1' if random.random() < 0.1 else ''}", headers=visitor)
        answer = visitors.getresponse()
        answer.read()
        if answer.status not in (301, 302, 307, 308):
            raise RuntimeError(f"{code} answered {answer.status}")
        visits += 1
        tell(visits)
        time.sleep(max(0.0, began + visits / rate - time.monotonic()))
    return f"{len(codes)} links, {visits} visits; see {address}links"
