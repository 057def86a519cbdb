"""Shlink's REST API: its own SDK in Node drives every method; errors come in its words."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.social.links.conftest import Listener, drain
from tests.social.links.peers import npm_package, run_node

URL = "https://example.com/some/where"

EVERY_METHOD = """
import assert from 'node:assert/strict';
import { ShlinkApiClient } from '@shlinkio/shlink-js-sdk';
import { FetchHttpClient } from '@shlinkio/shlink-js-sdk/fetch';
import { NodeHttpClient } from '@shlinkio/shlink-js-sdk/node';
import { ErrorType } from '@shlinkio/shlink-js-sdk/api-contract';

const [baseUrl, apiKey] = process.argv.slice(2);
const client = new ShlinkApiClient(new FetchHttpClient(), { baseUrl, apiKey });
const again = new ShlinkApiClient(new NodeHttpClient(), { baseUrl, apiKey });
const fails = async (promise, type, status) => {
  const error = await promise.then(() => assert.fail('it should have failed'), (error) => error);
  assert.equal(error.type, type);
  assert.equal(error.status, status);
  assert.equal(typeof error.detail, 'string');
  return error;
};
const visit = (path, headers = {}) =>
  fetch(baseUrl + path, { redirect: 'manual', headers: { 'user-agent': 'Mozilla/5.0', ...headers } });

assert.equal((await client.health()).status, 'pass');

// createShortUrl, getShortUrl
const made = await client.createShortUrl({
  longUrl: 'https://example.com/one', customSlug: 'one', tags: ['red', 'blue'], title: 'One', maxVisits: 5,
  validSince: '2020-01-01T00:00:00+00:00', validUntil: '2099-01-01T00:00:00+00:00', crawlable: true,
});
assert.equal(made.shortCode, 'one');
assert.equal(made.domain, null);
assert.deepEqual(made.tags, ['red', 'blue']);
assert.deepEqual(made.meta, {
  validSince: '2020-01-01T00:00:00+00:00', validUntil: '2099-01-01T00:00:00+00:00', maxVisits: 5,
});
assert.deepEqual(made.visitsSummary, { total: 0, nonBots: 0, bots: 0 });
assert.deepEqual(await client.getShortUrl({ shortCode: 'one' }), made);
const two = await again.createShortUrl({ longUrl: 'https://example.com/two', tags: ['blue'], shortCodeLength: 9 });
assert.equal(two.shortCode.length, 9);
assert.deepEqual(await again.createShortUrl({ longUrl: two.longUrl, tags: ['blue'], findIfExists: true }), two);
await fails(client.createShortUrl({ longUrl: 'https://example.com', customSlug: 'one' }), ErrorType.INVALID_SLUG, 400);
const wrong = await fails(client.createShortUrl({ longUrl: 'javascript:alert(1)' }), ErrorType.INVALID_ARGUMENT, 400);
assert.deepEqual(wrong.invalidElements, ['longUrl']);

// listShortUrls
assert.equal((await client.listShortUrls()).pagination.totalItems, 2);
const listed = await client.listShortUrls({ searchTerm: 'example.com/t', orderBy: { field: 'visits', dir: 'ASC' } });
assert.deepEqual(listed.data.map((one) => one.shortCode), [two.shortCode]);
const page = await client.listShortUrls({ page: '2', itemsPerPage: 1, tags: ['blue'], tagsMode: 'all' });
assert.deepEqual(page.pagination, { currentPage: 2, pagesCount: 2, itemsPerPage: 1, itemsInCurrentPage: 1, totalItems: 2 });
assert.equal((await client.listShortUrls({ excludeTags: ['red'] })).pagination.totalItems, 1);
assert.equal((await client.listShortUrls({
  excludeMaxVisitsReached: true, excludePastValidUntil: true, startDate: '2020-01-01T00:00:00Z', domain: 'DEFAULT',
})).pagination.totalItems, 2);

// updateShortUrl
const changes = { longUrl: 'https://example.com/1', title: null, maxVisits: null };
const updated = await client.updateShortUrl({ shortCode: 'one' }, changes);
assert.equal(updated.longUrl, 'https://example.com/1');
assert.equal(updated.title, null);
assert.equal(updated.meta.maxVisits, null);
const missing = await fails(client.updateShortUrl({ shortCode: 'none' }, {}), ErrorType.INVALID_SHORTCODE, 404);
assert.equal(missing.shortCode, 'none');

// redirect rules
const conditions = [
  { type: 'device', matchKey: null, matchValue: 'android' },
  { type: 'language', matchKey: null, matchValue: 'de' },
  { type: 'query-param', matchKey: 'a', matchValue: 'b' },
  { type: 'any-value-query-param', matchKey: 'c', matchValue: null },
  { type: 'valueless-query-param', matchKey: 'd', matchValue: null },
  { type: 'ip-address', matchKey: null, matchValue: '192.0.2.*' },
  { type: 'geolocation-country-code', matchKey: null, matchValue: 'AT' },
  { type: 'geolocation-city-name', matchKey: null, matchValue: 'Wien' },
  { type: 'before-date', matchKey: null, matchValue: '2099-01-01T00:00:00Z' },
  { type: 'after-date', matchKey: null, matchValue: '2020-01-01T00:00:00Z' },
  { type: 'browser', matchKey: null, matchValue: 'firefox' },
];
const redirectRules = [
  { longUrl: 'https://example.com/all', conditions },
  { longUrl: 'https://example.com/fr', conditions: [{ type: 'language', matchKey: null, matchValue: 'fr' }] },
];
const rules = await client.setShortUrlRedirectRules({ shortCode: 'one' }, { redirectRules });
assert.deepEqual(rules.redirectRules, redirectRules.map((rule, at) => ({ ...rule, priority: at + 1 })));
assert.equal(rules.defaultLongUrl, 'https://example.com/1');
assert.deepEqual(await client.getShortUrlRedirectRules({ shortCode: 'one' }), rules);
assert.equal((await client.getShortUrl({ shortCode: 'one' })).hasRedirectRules, true);

// visits
const french = await visit('/one', { 'accept-language': 'fr', referer: 'https://news.example/x' });
assert.equal(french.headers.get('location'), 'https://example.com/fr');
assert.equal((await visit('/one')).headers.get('location'), 'https://example.com/1');
assert.equal((await visit(`/${two.shortCode}`, { 'user-agent': 'Googlebot/2.1' })).status, 302);
assert.equal((await visit('/')).status, 404);
assert.equal((await visit('/unknown')).status, 404);
await fetch(`${baseUrl}/test-drain`, { method: 'POST' });
const overview = await client.getVisitsOverview();
assert.deepEqual(overview.nonOrphanVisits, { total: 3, nonBots: 2, bots: 1 });
assert.deepEqual(overview.orphanVisits.total, 2);
const visits = await client.getShortUrlVisits({ shortCode: 'one' });
assert.equal(visits.pagination.totalItems, 2);
const [last, first] = visits.data;
assert.equal(first.referer, 'https://news.example/x');
assert.equal(first.redirectUrl, 'https://example.com/fr');
assert.equal(last.redirectUrl, 'https://example.com/1');
assert.equal(first.userAgent, 'Mozilla/5.0');
assert.equal(first.potentialBot, false);
assert.ok(first.visitedUrl.endsWith('/one'));
assert.equal((await client.getTagVisits('blue')).pagination.totalItems, 3);
assert.equal((await client.getTagVisits('blue', { excludeBots: true })).pagination.totalItems, 2);
await fails(client.getTagVisits('green'), ErrorType.TAG_NOT_FOUND, 404);
assert.equal((await client.getDomainVisits('DEFAULT', { itemsPerPage: 1 })).pagination.pagesCount, 3);
assert.equal((await client.getNonOrphanVisits({ startDate: '2020-01-01T00:00:00Z' })).pagination.totalItems, 3);
assert.equal((await client.getNonOrphanVisits({ endDate: '2020-01-01T00:00:00Z' })).pagination.totalItems, 0);
const orphans = await client.getOrphanVisits();
assert.deepEqual(orphans.data.map((one) => one.type).sort(), ['base_url', 'invalid_short_url']);
assert.equal((await client.getOrphanVisits({ type: 'base_url' })).pagination.totalItems, 1);
const byVisits = await client.listShortUrls({ orderBy: { field: 'nonBotVisits', dir: 'DESC' } });
assert.deepEqual(byVisits.data.map((one) => one.visitsSummary.nonBots), [2, 0]);
assert.deepEqual(await client.deleteOrphanVisits(), { deletedVisits: 2 });
assert.deepEqual(await client.deleteShortUrlVisits({ shortCode: 'one' }), { deletedVisits: 2 });
assert.equal((await client.getShortUrlVisits({ shortCode: 'one' })).pagination.totalItems, 0);

// tags
assert.deepEqual((await client.listTags()).data, ['blue', 'red']);
const stats = await client.tagsStats();
assert.deepEqual(stats.data.map(({ tag, shortUrlsCount }) => [tag, shortUrlsCount]), [['blue', 2], ['red', 1]]);
assert.equal(stats.data[0].visitsSummary.total, 3);
await client.editTag({ oldName: 'red', newName: 'green' });
await fails(client.editTag({ oldName: 'red', newName: 'pink' }), ErrorType.TAG_NOT_FOUND, 404);
await fails(client.editTag({ oldName: 'green', newName: 'blue' }), ErrorType.TAG_CONFLICT, 409);
assert.deepEqual(await client.deleteTags(['blue']), { tags: ['blue'] });
assert.deepEqual((await client.listTags()).data, ['green']);

// domains
const redirects = {
  baseUrlRedirect: 'https://example.com/base', regular404Redirect: null, invalidShortUrlRedirect: 'https://example.com/404',
};
assert.deepEqual(await client.editDomainRedirects({ domain: 's.example', ...redirects }), redirects);
const domains = await client.listDomains();
assert.deepEqual(domains.data.map(({ domain, isDefault }) => [domain, isDefault])[1], ['s.example', false]);
assert.deepEqual(domains.data[1].redirects, redirects);
const there = await client.createShortUrl({ longUrl: 'https://example.com/there', customSlug: 'one', domain: 's.example' });
assert.equal(there.domain, 's.example');
assert.equal((await client.listShortUrls({ domain: 's.example' })).pagination.totalItems, 1);
await fails(client.getDomainVisits('other.example'), ErrorType.DOMAIN_NOT_FOUND, 404);

// deleteShortUrl, mercureInfo, and who may not
await again.deleteShortUrl({ shortCode: 'one', domain: 's.example' });
await fails(client.getShortUrl({ shortCode: 'one', domain: 's.example' }), ErrorType.INVALID_SHORTCODE, 404);
await fails(client.mercureInfo(), ErrorType.MERCURE_NOT_CONFIGURED, 501);
const stranger = new ShlinkApiClient(new FetchHttpClient(), { baseUrl, apiKey: 'wrong' });
await fails(stranger.listTags(), ErrorType.INVALID_API_KEY, 401);
console.log('every method');
"""


@pytest.fixture
async def served(listener: Listener) -> AsyncIterator[str]:
    """The address of a real socket; `POST /test-drain` there folds all clicks."""
    inner = listener.server.exchanges.app

    async def application(scope, receive, send):  # type: ignore[no-untyped-def]
        if scope["path"] == "/test-drain":
            await drain(listener.links)
        await inner(scope, receive, send)

    listener.server.exchanges.app = application
    server = await asyncio.get_running_loop().create_server(listener.server, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for connection in list(listener.server.connections):
        connection.cut()


@pytest.mark.peer
async def test_every_method_of_shlinks_own_sdk_works(listener: Listener, served: str) -> None:
    folder = await asyncio.to_thread(npm_package, "@shlinkio/shlink-js-sdk", "3.2.1")
    said = await asyncio.to_thread(run_node, EVERY_METHOD, folder, served, listener.key)
    assert said.strip() == "every method"


async def test_who_brings_no_key_learns_which_one_is_missing(listener: Listener) -> None:
    answer = await listener.visit("/rest/v3/tags")
    assert answer.status == 401 and answer.json()["type"].endswith("/missing-authentication")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "element"),
    [
        (b"{", ""),
        (b"[]", ""),
        (b"{}", "longUrl"),
        (b'{"longUrl": 1}', "longUrl"),
        (b'{"longUrl": "https://example.com", "customSlug": "a b"}', "customSlug"),
        (b'{"longUrl": "https://example.com", "validUntil": "soon"}', "validUntil"),
        (b'{"longUrl": "https://example.com", "tags": ["' + b"x" * 61 + b'"]}', "tags"),
        (b'{"longUrl": "https://example.com", "maxVisits": -1}', "maxVisits"),
        (b'{"longUrl": "https://example.com", "shortCodeLength": 1}', "shortCodeLength"),
    ],
)
async def test_what_is_not_valid_is_a_400_with_its_element(listener: Listener, body: bytes, element: str) -> None:
    answer = await listener.shlink("POST", "/short-urls", body=body)
    assert answer.status == 400
    assert answer.json()["type"].endswith("/invalid-data") and answer.json()["invalidElements"] == [element]


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/short-urls?page=x", 400),
        ("GET", "/short-urls?orderBy=nonsense", 400),
        ("GET", "/short-urls?startDate=nonsense", 400),
        ("GET", "/short-urls?domain=nowhere.example", 404),
        ("GET", "/short-urls?itemsPerPage=-1&page=999999999", 200),
        ("GET", "/nothing", 404),
        ("PUT", "/short-urls", 405),
        ("POST", "/short-urls/none/redirect-rules", 400),
    ],
)
async def test_odd_questions_get_answers(listener: Listener, method: str, target: str, status: int) -> None:
    assert (await listener.shlink(method, target)).status == status


async def test_a_link_made_with_shlink_is_edited_with_our_own_api(listener: Listener) -> None:
    made = (await listener.shlink("POST", "/short-urls", json={"longUrl": URL, "customSlug": "x"})).json()
    (ours,) = (await listener.api("GET", "/links")).json()["items"]
    assert ours["short_url"] == made["shortUrl"]
    await listener.api("PATCH", f"/links/{ours['id']}", json={"title": "ours"})
    assert (await listener.shlink("GET", "/short-urls/x")).json()["title"] == "ours"
