"""SaslHandshake and SaslAuthenticate: who a client is, before anything else or again before that ends.

A refused login is answered a second later, and the connection is then closed: guessing is slow, and costs us nothing but the
wait. A client may log in again on the same connection (KIP-368), as who it was.
"""

from typing import Any

from mainspring.storage.log.kafka import logins
from mainspring.storage.log.kafka.refusals import Disconnect
from mainspring.storage.log.kafka.registry import Answer, ApiKey, Context, handles

ILLEGAL_SASL_STATE, UNSUPPORTED_SASL_MECHANISM, SASL_AUTHENTICATION_FAILED = 34, 33, 58


@handles(ApiKey.SASL_HANDSHAKE, range(2))
def sasl_handshake(request: Any, context: Context) -> Answer:
    offered = context.broker.security.mechanisms
    if request.mechanism not in offered:
        context.then_close = True
        return {"error_code": UNSUPPORTED_SASL_MECHANISM, "mechanisms": offered}
    context.session.login = logins.begin(request.mechanism, context.broker.security)
    context.session.raw_login = context.api_version == 0
    return {"error_code": 0, "mechanisms": offered}


@handles(ApiKey.SASL_AUTHENTICATE, range(3))
async def sasl_authenticate(request: Any, context: Context) -> Answer:
    session = context.session
    if session.login is None:
        context.then_close = True
        return {"error_code": ILLEGAL_SASL_STATE, "error_message": "SaslHandshake comes first"}
    try:
        step = await advance(bytes(request.auth_bytes), context)
    except logins.LoginFailed as failed:
        return {"error_code": SASL_AUTHENTICATION_FAILED, "error_message": str(failed)}
    answer: dict[str, Any] = {"error_code": 0, "error_message": None, "auth_bytes": step.message}
    if session.expires_ns is not None:
        left_ms = (session.expires_ns - context.broker.clock.mono_ns()) // 1_000_000
        answer["session_lifetime_ms"] = max(left_ms, 1)
    return answer


async def raw_answer(message: bytes, context: Context) -> bytes:
    """A step of a login without headers; a refusal closes the connection."""
    try:
        step = await advance(message, context)
    except logins.LoginFailed as failed:
        raise Disconnect(str(failed)) from None
    return len(step.message).to_bytes(4, "big") + step.message


async def advance(message: bytes, context: Context) -> logins.Step:
    """One step of the login that goes on; notes who the client is when it is the last. Raises `LoginFailed`, a second later."""
    session, broker = context.session, context.broker
    try:
        step: logins.Step = await session.login.step(message)
        if step.user is not None:
            principal = f"User:{step.user}"
            if session.authenticated and session.principal != principal:
                raise logins.LoginFailed("Cannot change principals during re-authentication")
            session.principal, session.authenticated, session.login = principal, True, None
            session.denied = step.denied
            session.expires_ns = _end(step.expires_us, broker)
        return step
    except logins.LoginFailed:
        session.login = None
        broker.failed_logins.inc()
        await broker.clock.sleep(broker.settings.failed_authentication_delay_s)
        context.then_close = True
        raise


def _end(expires_us: int | None, broker: Any) -> int | None:
    """A moment of the wall clock as one of the monotonic clock."""
    if expires_us is None:
        return None
    left_ns = expires_us * 1000 - broker.clock.wall_ns()
    end_ns: int = broker.clock.mono_ns() + max(left_ns, 0)
    return end_ns
