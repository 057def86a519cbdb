"""Temporary credentials: `GetSessionToken` and `AssumeRole` of AWS's Security Token Service, on the same port.

Nothing is stored: a session token is sealed with the secret of whoever asked for it, and ends with that key pair at the latest.
A role is a name that policies can mean and a policy that bounds; whoever assumes one of its own account stays that account.
"""

import re
from hashlib import sha256
from urllib.parse import parse_qsl

from mainspring.core.problems import Problem
from mainspring.storage.objects.s3.answers import Answer
from mainspring.storage.objects.s3.authentication import authenticate
from mainspring.storage.objects.s3.call import Call
from mainspring.storage.objects.s3.errors import S3Error, told
from mainspring.storage.objects.s3.policy import compile_policy
from mainspring.storage.objects.s3.routing import Operation
from mainspring.storage.objects.s3.xml import element, escaped, timestamp

STS_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
SECONDS_MIN = 900
ASSUMED_S_MAX = 12 * 3600
SESSION_S_MAX = 36 * 3600
POLICY_LETTERS_MAX = 2_048
BODY_BYTES_MAX = 64 << 10


async def answer(call: Call) -> Answer:
    """Answers a POST to the service itself."""
    call.operation = Operation("SecurityToken", "", answer)
    if "authorization" not in {name.decode("latin-1") for name in call.headers}:
        raise S3Error("MethodNotAllowed", Method="POST", ResourceType="SERVICE")
    try:
        return await _answered(call)
    except Problem as problem:
        status, code, message = told(problem)
        kind = "Sender" if status < 500 else "Receiver"
        body = (
            f'<ErrorResponse xmlns="{STS_NAMESPACE}"><Error><Type>{kind}</Type><Code>{code}</Code>'
            f"<Message>{escaped(message)}</Message></Error><RequestId>{call.request_id}</RequestId></ErrorResponse>"
        )
        return Answer(status, (), body.encode(), b"text/xml")


async def _answered(call: Call) -> Answer:
    message_hash = call.headers.get(b"x-amz-content-sha256")
    body = await call.body.whole(BODY_BYTES_MAX)
    if message_hash is None:
        # Other services than S3 sign the hash of the body without saying it in a header.
        call.headers = {**call.headers, b"x-amz-content-sha256": sha256(body).hexdigest().encode()}
        await _authenticate_unsaid(call)
    else:
        await authenticate(call, "sts")
        if sha256(body).hexdigest() != call.body_sha256:
            raise S3Error("XAmzContentSHA256Mismatch")
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
    except ValueError:
        raise S3Error("InvalidArgument") from None
    action = fields.get("Action", "")
    call.operation = Operation(
        action if action in ("AssumeRole", "GetSessionToken", "GetCallerIdentity") else "SecurityToken", "", answer
    )
    if action == "GetCallerIdentity":
        identity = call.identity
        arn = identity.session_arn or identity.arn
        return _result(
            call,
            action,
            element("UserId", identity.account) + element("Account", identity.account) + element("Arn", arn),
        )
    if action not in ("AssumeRole", "GetSessionToken"):
        raise S3Error("InvalidArgument", "The action or operation requested is not known", ArgumentName="Action")
    if call.identity.session_arn or call.identity.access_key.startswith("ASIA"):
        raise S3Error("AccessDenied", "Temporary credentials cannot ask for others")
    return await _issue(call, action, fields)


async def _authenticate_unsaid(call: Call) -> None:
    """Verifies a signature of a request whose body hash is in no header."""
    from mainspring.wire.aws import sigv4
    from mainspring.wire.aws.errors import AuthorizationHeaderMalformed

    headers = dict(call.headers)
    hashed = headers.pop(b"x-amz-content-sha256").decode()
    claim = sigv4.claim_in_header(
        headers.get(b"authorization", b"").decode("latin-1"),
        headers.get(b"x-amz-date", b"").decode("latin-1"),
        headers.get(b"x-amz-security-token", b"").decode("latin-1"),
    )
    if claim.scope.service != "sts":
        raise AuthorizationHeaderMalformed("The Credential's service is not sts")
    sigv4.check_time(claim, call.door.clock.wall_ns() / 1e9)
    credentials = await call.door.identities.find(claim.scope.access_key, claim.token)
    sigv4.verify(claim, credentials.secret, call.method, call.raw_path, call.query_pairs, headers, hashed)
    call.identity, call.signed_by = credentials.identity, "header"


async def _issue(call: Call, action: str, fields: dict[str, str]) -> Answer:
    assumes = action == "AssumeRole"
    role = session = ""
    policy = b""
    if assumes:
        role, session = fields.get("RoleArn", ""), fields.get("RoleSessionName", "")
        if not re.fullmatch(r"arn:aws:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}", role):
            raise S3Error("InvalidArgument", "RoleArn is not valid", ArgumentName="RoleArn")
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", session):
            raise S3Error("InvalidArgument", "RoleSessionName is not valid", ArgumentName="RoleSessionName")
        if role.split(":")[4] != call.identity.account:
            raise S3Error("AccessDenied", "A role can be assumed by its own account only")
        policy = fields.get("Policy", "").encode()
        if len(policy) > POLICY_LETTERS_MAX:
            raise S3Error("MalformedPolicy", f"A session policy has at most {POLICY_LETTERS_MAX} letters")
        if policy:
            compile_policy(policy, None)
    most = ASSUMED_S_MAX if assumes else SESSION_S_MAX
    text = fields.get("DurationSeconds", "3600" if assumes else str(12 * 3600))
    if not text.isascii() or not text.isdigit() or not SECONDS_MIN <= int(text[:9]) <= most:
        raise S3Error(
            "InvalidArgument", f"DurationSeconds is from {SECONDS_MIN} to {most}", ArgumentName="DurationSeconds"
        )
    identities = call.door.identities
    parent = await identities.find(call.identity.access_key)
    key, secret, token, expires_s = identities.issue(parent, int(text), role, session, policy)
    inner = "<Credentials>"
    inner += element("AccessKeyId", key) + element("SecretAccessKey", secret) + element("SessionToken", token)
    inner += element("Expiration", timestamp(expires_s * 1_000_000)) + "</Credentials>"
    if assumes:
        arn = f"arn:aws:sts::{call.identity.account}:assumed-role/{role.rpartition('/')[2]}/{session}"
        inner += (
            f"<AssumedRoleUser>{element('AssumedRoleId', f'{key}:{session}')}{element('Arn', arn)}</AssumedRoleUser>"
        )
    return _result(call, action, inner)


def _result(call: Call, action: str, inner: str) -> Answer:
    body = (
        f'<{action}Response xmlns="{STS_NAMESPACE}"><{action}Result>{inner}</{action}Result>'
        f"<ResponseMetadata><RequestId>{call.request_id}</RequestId></ResponseMetadata></{action}Response>"
    )
    return Answer(200, (), body.encode(), b"text/xml")
