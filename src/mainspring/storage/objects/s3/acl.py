"""Access control lists: who was granted what on a bucket or an object, in canned, header and XML form."""

import re
from collections.abc import Mapping

import msgspec

from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.identity import Identity
from mainspring.storage.objects.s3.xml import HEAD, NAMESPACE, SCHEMA_INSTANCE, Malformed, Node, escaped, parse

GRANTS_MAX = 100
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
AUTHENTICATED = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
LOG_DELIVERY = "http://acs.amazonaws.com/groups/s3/LogDelivery"
GROUPS = (ALL_USERS, AUTHENTICATED, LOG_DELIVERY)
PERMISSIONS = ("FULL_CONTROL", "READ", "WRITE", "READ_ACP", "WRITE_ACP")
HEADERS = {
    b"x-amz-grant-full-control": "FULL_CONTROL",
    b"x-amz-grant-read": "READ",
    b"x-amz-grant-write": "WRITE",
    b"x-amz-grant-read-acp": "READ_ACP",
    b"x-amz-grant-write-acp": "WRITE_ACP",
}
CANNED = (
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
    "log-delivery-write",
)
_GRANTEE = re.compile(r'\s*(id|uri|emailAddress)\s*=\s*"?([^",]{1,256})"?\s*')


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """`grantee` is a canonical id or the address of a group."""

    grantee: str
    permission: str


class Acl(msgspec.Struct, frozen=True, array_like=True):
    owner: str
    grants: tuple[Grant, ...]

    def allows(self, identity: Identity, permission: str, *, ignore_public: bool = False) -> bool:
        """Whether a grant gives `permission` to `identity`."""
        for grant in self.grants:
            if grant.permission not in (permission, "FULL_CONTROL"):
                continue
            if grant.grantee in GROUPS:
                reached = grant.grantee == ALL_USERS or (grant.grantee == AUTHENTICATED and not identity.anonymous)
                if reached and not ignore_public:
                    return True
            elif grant.grantee == identity.id:
                return True
        return False

    @property
    def public(self) -> bool:
        return any(grant.grantee in (ALL_USERS, AUTHENTICATED) for grant in self.grants)


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Acl).decode


def private(owner: str) -> Acl:
    return Acl(owner, (Grant(owner, "FULL_CONTROL"),))


def canned(name: str, owner: str, bucket_owner: str) -> Acl:
    """Raises `InvalidArgument` for a name that is none."""
    if name not in CANNED:
        raise S3Error("InvalidArgument", ArgumentName="x-amz-acl", ArgumentValue=name[:200])
    grants = [Grant(owner, "FULL_CONTROL")]
    if name in ("public-read", "public-read-write"):
        grants.append(Grant(ALL_USERS, "READ"))
    if name == "public-read-write":
        grants.append(Grant(ALL_USERS, "WRITE"))
    if name == "authenticated-read":
        grants.append(Grant(AUTHENTICATED, "READ"))
    if name == "log-delivery-write":
        grants += (Grant(LOG_DELIVERY, "WRITE"), Grant(LOG_DELIVERY, "READ_ACP"))
    if name.startswith("bucket-owner-") and bucket_owner != owner:
        grants.append(Grant(bucket_owner, "READ" if name == "bucket-owner-read" else "FULL_CONTROL"))
    return Acl(owner, tuple(grants))


def in_headers(headers: Mapping[bytes, bytes], owner: str, bucket_owner: str, emails: Mapping[str, str]) -> Acl | None:
    """The list that a request's headers give, or None. Raises `InvalidRequest` for a canned one beside grants."""
    name = headers.get(b"x-amz-acl")
    granting = [header for header in HEADERS if header in headers]
    if name is not None:
        if granting:
            raise S3Error("InvalidRequest", "Specifying both Canned ACLs and Header Grants is not allowed")
        return canned(name.decode("latin-1"), owner, bucket_owner)
    if not granting:
        return None
    grants = []
    for header in granting:
        for one in headers[header].decode("latin-1").split(","):
            found = _GRANTEE.fullmatch(one)
            if found is None:
                raise S3Error("InvalidArgument", "Argument format not recognized", ArgumentName=header.decode())
            grants.append(Grant(_grantee(found[1], found[2].strip(), emails), HEADERS[header]))
    return _checked(owner, grants)


def in_document(body: bytes, owner: str, emails: Mapping[str, str]) -> Acl:
    """The list of an `AccessControlPolicy`. Raises `MalformedACLError`, `AccessDenied` where it changes the owner."""
    try:
        root = parse(body, "AccessControlPolicy")
    except Malformed as error:
        raise S3Error("MalformedACLError", str(error)) from None
    named = root.one("Owner")
    if named is None or root.one("AccessControlList") is None:
        raise S3Error("MalformedACLError")
    if named.get("ID") != owner:
        raise S3Error("AccessDenied")
    listed = root.one("AccessControlList")
    assert listed is not None
    return _checked(owner, [_grant(one, emails) for one in listed.all("Grant")])


def _grant(node: Node, emails: Mapping[str, str]) -> Grant:
    grantee, permission = node.one("Grantee"), node.get("Permission")
    if grantee is None or permission not in PERMISSIONS:
        raise S3Error("MalformedACLError")
    for name, kind in (("ID", "id"), ("URI", "uri"), ("EmailAddress", "emailAddress")):
        if value := grantee.get(name):
            return Grant(_grantee(kind, value, emails), permission)
    raise S3Error("MalformedACLError")


def _grantee(kind: str, value: str, emails: Mapping[str, str]) -> str:
    if kind == "uri":
        if value not in GROUPS:
            raise S3Error("InvalidArgument", "Invalid group uri", ArgumentName="uri", ArgumentValue=value)
        return value
    if kind == "emailAddress":
        if value.lower() not in emails:
            raise S3Error("InvalidArgument", "The e-mail address is of no account", ArgumentName="email")
        return emails[value.lower()]
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise S3Error("InvalidArgument", "Invalid id", ArgumentName="CanonicalUser/ID", ArgumentValue=value)
    return value


def _checked(owner: str, grants: list[Grant]) -> Acl:
    if len(grants) > GRANTS_MAX:
        raise S3Error("MalformedACLError", f"A list has at most {GRANTS_MAX} grants")
    return Acl(owner, tuple(grants))


def document(acl: Acl, names: Mapping[str, str]) -> str:
    """The list as an `AccessControlPolicy`."""
    grants = "".join(
        f'<Grant><Grantee xmlns:xsi="{SCHEMA_INSTANCE}" xsi:type="Group"><URI>{grant.grantee}</URI></Grantee>'
        f"<Permission>{grant.permission}</Permission></Grant>"
        if grant.grantee in GROUPS
        else f'<Grant><Grantee xmlns:xsi="{SCHEMA_INSTANCE}" xsi:type="CanonicalUser">{_who(grant.grantee, names)}</Grantee>'
        f"<Permission>{grant.permission}</Permission></Grant>"
        for grant in acl.grants
    )
    return (
        f'{HEAD}<AccessControlPolicy xmlns="{NAMESPACE}"><Owner>{_who(acl.owner, names)}</Owner>'
        f"<AccessControlList>{grants}</AccessControlList></AccessControlPolicy>"
    )


def _who(id: str, names: Mapping[str, str]) -> str:
    return f"<ID>{escaped(id)}</ID><DisplayName>{escaped(names.get(id, ''))}</DisplayName>"
