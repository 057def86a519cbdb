"""The JSON API of the limiter, below `/api/limiter`.

Looking and trying out need `limiter:read`, deciding `limiter:hit`, resetting and changing what is in force `limiter:write`.
"""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from mainspring.core.http import Channel, Request, Response, Routes, conditional, problem_response
from mainspring.core.problems import Conflict, Invalid, Problem, Unavailable
from mainspring.primitives.limiter.decision import Decision
from mainspring.primitives.limiter.headers import encoded, headers
from mainspring.primitives.limiter.limiter import Limiter
from mainspring.primitives.limiter.live import watch
from mainspring.primitives.limiter.model import BadCost, BadKey, BadPolicy, UnknownPolicy
from mainspring.primitives.limiter.notation import TEXT_LETTERS_MAX, format_policy
from mainspring.primitives.limiter.plans import Plan
from mainspring.primitives.limiter.replay import Replay, Replayed, replay_log
from mainspring.primitives.limiter.service import Full, Rulebook, Stored
from mainspring.primitives.limiter.simulate import Simulated, Simulation, simulate
from mainspring.primitives.limiter.store import KeyState

routes = Routes("limiter")

HIT = "limiter:hit"
KEY_LETTERS_MAX = 65_536
OVERRIDES_SHOWN = 1_000
DECIDING = (UnknownPolicy, BadKey, BadCost)
CHANGING = (UnknownPolicy, BadKey, BadCost, Unavailable)

Key = Annotated[str, Meta(max_length=KEY_LETTERS_MAX)]
Text = Annotated[str, Meta(min_length=1, max_length=TEXT_LETTERS_MAX)]
_RESERVATION = re.compile(r"([0-9]{1,10})@([0-9]{1,20})(?:@(local))?")


class Hit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key, or one for each level of a hierarchy."""

    key: Key | Annotated[tuple[Key, ...], Meta(max_length=8)]
    cost: int = 1


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: Key | Annotated[tuple[Key, ...], Meta(max_length=8)]


class Settlement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`reservation` is what the hit gave, `actual` what it has turned out to cost."""

    key: Key | Annotated[tuple[Key, ...], Meta(max_length=8)]
    reservation: str
    actual: int


class Lease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: Key | Annotated[tuple[Key, ...], Meta(max_length=8)]
    lease: Annotated[str, Meta(pattern="^[0-9]{1,16}$")]


class LimitView(msgspec.Struct, frozen=True):
    """How one limit stands after the decision."""

    name: str
    passed: bool
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float


class DecisionView(msgspec.Struct, frozen=True):
    """A decision. The numbers beside `allowed` are those of the limit that matters; `lease` and `reservation` are null
    where there is nothing to release or to settle; `store` says who decided."""

    allowed: bool
    policy: str
    limit: int
    remaining: int
    reset_s: float
    retry_after_s: float
    delay_s: float
    violated: Sequence[str]
    shadowed: Sequence[str]
    store: str
    lease: str | None
    reservation: str | None
    limits: list[LimitView]

    @classmethod
    def of(cls, decision: Decision) -> "DecisionView":
        limits = [
            LimitView(limit.name, one.allowed, limit.rule.most, one.remaining, one.reset_ns / 1e9, one.retry_ns / 1e9)
            for limit, one in decision.parts
        ]
        reservation = f"{decision.cost}@{decision.at_ns}" + ("@local" if decision.store == "local" else "")
        return cls(
            decision.allowed,
            decision.policy,
            decision.limit,
            decision.remaining,
            decision.reset,
            decision.retry_after,
            decision.delay,
            decision.violated,
            decision.shadowed,
            decision.store,
            str(decision.lease) if decision.lease else None,
            reservation if decision.allowed and decision.at_ns else None,
            limits,
        )


class RuleView(msgspec.Struct, frozen=True):
    """One limit of a policy: the algorithm and the most that it ever admits in a window of its own period (its bound)."""

    name: str
    algorithm: str
    limit: int
    window_s: float
    shadow: bool
    bound: int


class PolicyView(msgspec.Struct, frozen=True):
    """A policy in force. `source` is `set` where it was put here, else `code`; `version` is 0 for what code defines."""

    name: str
    text: str
    fail: str
    source: str
    version: int
    updated_at: str | None
    levels: list[list[RuleView]]


class PolicyText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: Text


class Overrides(msgspec.Struct, frozen=True):
    """The limits of its own that a key has, by policy."""

    key: str
    limits: dict[str, str]


class NewOverrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Texts by policy; null ends an override. Policies that are not named stay as they are."""

    limits: Annotated[dict[Annotated[str, Meta(max_length=64)], Text | None], Meta(max_length=100)]


class OverrideRow(msgspec.Struct, frozen=True):
    key: str
    policy: str
    text: str


class LiveQuery(msgspec.Struct, frozen=True):
    """Only the decisions of one policy, or of all."""

    policy: Annotated[str, Meta(max_length=64)] = ""


class LeaseLost(Problem):
    status, type, title = 409, "limiter/lease-lost", "This slot is not held any more"


class TopQuery(msgspec.Struct, frozen=True):
    top: Annotated[int, Meta(ge=1, le=1_000)] = 50


class KeysView(msgspec.Struct, frozen=True):
    """By limit, the keys that have spent most of it, of at most 100,000 that were looked at."""

    policy: str
    limits: dict[str, list[KeyState]]


class CheckQuery(msgspec.Struct, frozen=True):
    """`key` may be repeated for a hierarchy. `deny` is the status of a refusal: 403 for nginx, which knows no other."""

    key: Annotated[tuple[Key, ...], Meta(min_length=1, max_length=8)]
    cost: int = 1
    deny: Annotated[int, Meta(ge=400, le=599)] = 429


@routes.post("/{policy}/hit", scope=HIT, problems=DECIDING)
async def hit(policy: str, body: Hit, limiter: Limiter) -> DecisionView:
    """Decides and charges. A refusal is an answer like any other: the status is 200 and `allowed` is false."""
    return DecisionView.of(await limiter.hit(policy, body.key, body.cost))


@routes.post("/{policy}/peek", scope="limiter:read", problems=DECIDING)
async def peek(policy: str, body: Hit, limiter: Limiter) -> DecisionView:
    """Decides and charges nothing."""
    return DecisionView.of(await limiter.peek(policy, body.key, body.cost))


@routes.post("/{policy}/refund", scope=HIT, problems=CHANGING)
async def refund(policy: str, body: Hit, limiter: Limiter) -> None:
    """Gives back what was spent in the current window."""
    await limiter.refund(policy, body.key, body.cost)


@routes.post("/{policy}/settle", scope=HIT, problems=CHANGING)
async def settle(policy: str, body: Settlement, limiter: Limiter) -> None:
    """Corrects, once, what a hit has charged to what it has turned out to cost."""
    found = _RESERVATION.fullmatch(body.reservation)
    if found is None:
        raise Invalid("A reservation is what a hit has given", pointer="/body/reservation")
    await limiter.settle(policy, body.key, int(found[1]), body.actual, int(found[2]), found[3] or "")


@routes.post("/{policy}/reset", problems=CHANGING)
async def reset(policy: str, body: Keys, limiter: Limiter) -> None:
    """Forgets what the keys have spent, their slots and their penalties."""
    await limiter.reset(policy, body.key)


@routes.post("/{policy}/release", scope=HIT, problems=CHANGING)
async def release(policy: str, body: Lease, limiter: Limiter) -> None:
    """Frees a slot."""
    await limiter.release(policy, body.key, int(body.lease))


@routes.post("/{policy}/renew", scope=HIT, problems=(*CHANGING, LeaseLost))
async def renew(policy: str, body: Lease, limiter: Limiter) -> None:
    """Keeps a slot for its whole time from now."""
    if not await limiter.renew(policy, body.key, int(body.lease)):
        raise LeaseLost


@routes.get("/check/{policy}", scope=HIT, status=204, problems=DECIDING)
async def check_request(policy: str, query: CheckQuery, limiter: Limiter) -> Response:
    """For nginx's `auth_request`: 204, or the status in `deny`, with the header fields of the decision."""
    decision = await limiter.hit(policy, query.key if len(query.key) > 1 else query.key[0], query.cost)
    if decision.allowed:
        return Response(204, headers=encoded(headers(decision)))
    refusal = problem_response(decision.exceeded())
    refusal.status = query.deny
    return refusal


@routes.get("/{policy}/keys", problems=(UnknownPolicy, Unavailable))
async def keys(policy: str, query: TopQuery, limiter: Limiter) -> KeysView:
    """Who has spent most."""
    return KeysView(policy, await limiter.keys(policy, query.top))


@routes.get("/policies")
async def policies(limiter: Limiter, rulebook: Rulebook) -> list[PolicyView]:
    """All policies in force, by name."""
    return [_view(plan, rulebook) for plan in limiter.plans()]


@routes.get("/policies/{name}", problems=(UnknownPolicy,))
async def policy(name: str, request: Request, limiter: Limiter, rulebook: Rulebook) -> Response:
    """One policy in force; its ETag is that of the version that somebody has set."""
    view = _view(limiter.plan(name), rulebook)
    return conditional.answer(request, Response.json(view), _etag(view.version))


@routes.put("/policies/{name}", problems=(BadPolicy, Conflict, Full))
async def put_policy(name: str, body: PolicyText, request: Request, limiter: Limiter, rulebook: Rulebook) -> PolicyView:
    """Sets a policy, which is in force here at once and on every node within a second."""
    stored = rulebook.stored(name)
    conditional.check(request, _etag(stored.version) if stored else None)
    await rulebook.put(name, body.text, _expected(request, stored))
    return _view(limiter.plan(name), rulebook)


@routes.delete("/policies/{name}", problems=(UnknownPolicy, Conflict))
async def delete_policy(name: str, request: Request, rulebook: Rulebook) -> None:
    """Takes back what was set here; what code defines under the name is in force again."""
    stored = rulebook.stored(name)
    conditional.check(request, _etag(stored.version) if stored else None)
    await rulebook.delete(name, _expected(request, stored))


@routes.get("/overrides")
async def overrides(rulebook: Rulebook) -> list[OverrideRow]:
    """All overrides, by key; the first thousand."""
    return [OverrideRow(*row) for row in rulebook.overrides()[:OVERRIDES_SHOWN]]


@routes.get("/overrides/{key}")
async def overrides_of(key: str, rulebook: Rulebook) -> Overrides:
    """The limits of its own that a key has; none is an answer too."""
    return Overrides(key, rulebook.overrides_of(key))


@routes.put("/overrides/{key}", problems=(UnknownPolicy, BadPolicy, BadKey, Full))
async def put_overrides(key: str, body: NewOverrides, rulebook: Rulebook) -> Overrides:
    """Gives a key limits of its own, or ends them; in force here at once and on every node within a second."""
    return Overrides(key, await rulebook.put_overrides(key, body.limits))


@routes.delete("/overrides/{key}", problems=(BadKey,))
async def delete_overrides(key: str, rulebook: Rulebook) -> None:
    """Ends all overrides of a key."""
    await rulebook.put_overrides(key, dict.fromkeys(rulebook.overrides_of(key)))


@routes.post("/simulate", scope="limiter:read", problems=(BadPolicy,))
async def simulate_load(body: Simulation) -> Simulated:
    """Puts one load on several algorithms side by side; nothing is charged."""
    return await asyncio.to_thread(simulate, body)


@routes.post("/replay", scope="limiter:read", problems=(BadPolicy, BadKey))
async def replay(body: Replay) -> Replayed:
    """What a policy would have refused of a recorded access log, by key and minute; nothing is charged."""
    return await asyncio.to_thread(lambda: replay_log(body.log.splitlines(), body.policy, body.keys))


@routes.websocket("/live")
async def live(channel: Channel, query: LiveQuery, limiter: Limiter) -> None:
    """Decisions as they are made: how many, and a sample, four times a second."""
    await watch(channel, limiter, query.policy)


def _view(plan: Plan, rulebook: Rulebook) -> PolicyView:
    stored = rulebook.stored(plan.name)
    levels = [
        [
            RuleView(
                limit.name,
                limit.rule.kind,
                limit.rule.most,
                limit.rule.span_ns / 1e9,
                limit.shadow,
                limit.rule.bound(limit.rule.span_ns or 1),
            )
            for _, limit in level
        ]
        for level in plan.levels
    ]
    return PolicyView(
        plan.name,
        format_policy(plan.policy),
        plan.fail,
        "set" if stored else "code",
        stored.version if stored else 0,
        rfc3339(stored.updated_us) if stored else None,
        levels,
    )


def _etag(version: int) -> bytes:
    return conditional.etag_of(b"%d" % version)


def _expected(request: Request, stored: Stored | None) -> int | None:
    """The version that the request's conditions have been held against, so that the transaction can hold to it too."""
    if b"if-match" in request.headers or b"if-none-match" in request.headers:
        return stored.version if stored else 0
    return None


def rfc3339(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
