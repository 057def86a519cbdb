"""What the object store refuses, each with the S3 code (`code`) under which its clients know it."""

from typing import ClassVar

from mainspring.core.problems import Problem


class ObjectsError(Problem):
    """Any refusal of the object store."""

    code: ClassVar[str] = "InternalError"
    status, type, title = 500, "objects/internal-error", "We encountered an internal error. Please try again."


class InternalError(ObjectsError):
    """More shards of a stripe are lost or damaged than its parity can replace: nothing is answered in their stead."""


class ElsewhereError(ObjectsError):
    code, status = "ServiceUnavailable", 503
    type, title = "objects/elsewhere", "The disks of this object store are on another node."


class NoSuchBucket(ObjectsError):
    code, status = "NoSuchBucket", 404
    type, title = "objects/no-such-bucket", "The specified bucket does not exist"


class NoSuchKey(ObjectsError):
    """`marker` says that the newest version is a delete marker, `version` which one."""

    code, status = "NoSuchKey", 404
    type, title = "objects/no-such-key", "The specified key does not exist."


class NoSuchVersion(ObjectsError):
    code, status = "NoSuchVersion", 404
    type, title = "objects/no-such-version", "The specified version does not exist."


class NoSuchUpload(ObjectsError):
    code, status = "NoSuchUpload", 404
    type, title = (
        "objects/no-such-upload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
    )


class BucketAlreadyExists(ObjectsError):
    code, status = "BucketAlreadyExists", 409
    type, title = (
        "objects/bucket-already-exists",
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system.",
    )


class BucketAlreadyOwnedByYou(ObjectsError):
    code, status = "BucketAlreadyOwnedByYou", 409
    type, title = (
        "objects/bucket-already-owned-by-you",
        "Your previous request to create the named bucket succeeded and you already own it.",
    )


class BucketNotEmpty(ObjectsError):
    code, status = "BucketNotEmpty", 409
    type, title = "objects/bucket-not-empty", "The bucket you tried to delete is not empty"


class InvalidBucketName(ObjectsError):
    code, status = "InvalidBucketName", 400
    type, title = "objects/invalid-bucket-name", "The specified bucket is not valid."


class KeyTooLong(ObjectsError):
    code, status = "KeyTooLongError", 400
    type, title = "objects/key-too-long", "Your key is too long"


class InvalidArgument(ObjectsError):
    code, status = "InvalidArgument", 400
    type, title = "objects/invalid-argument", "Invalid Argument"


class InvalidRequest(ObjectsError):
    code, status = "InvalidRequest", 400
    type, title = "objects/invalid-request", "Invalid Request"


class BadRequest(ObjectsError):
    code, status = "BadRequest", 400
    type, title = "objects/bad-request", "Bad Request"


class MetadataTooLarge(ObjectsError):
    code, status = "MetadataTooLarge", 400
    type, title = "objects/metadata-too-large", "Your metadata headers exceed the maximum allowed metadata size"


class PreconditionFailed(ObjectsError):
    """`condition` names the header that did not hold."""

    code, status = "PreconditionFailed", 412
    type, title = "objects/precondition-failed", "At least one of the pre-conditions you specified did not hold"


class NotModified(ObjectsError):
    code, status = "NotModified", 304
    type, title = "objects/not-modified", "Not Modified"


class InvalidRange(ObjectsError):
    code, status = "InvalidRange", 416
    type, title = "objects/invalid-range", "The requested range is not satisfiable"


class InvalidPartNumber(ObjectsError):
    code, status = "InvalidPartNumber", 416
    type, title = "objects/invalid-part-number", "The requested partnumber is not satisfiable"


class BadDigest(ObjectsError):
    code, status = "BadDigest", 400
    type, title = (
        "objects/bad-digest",
        "The Content-MD5 or checksum value you specified did not match what we received.",
    )


class InvalidDigest(ObjectsError):
    code, status = "InvalidDigest", 400
    type, title = "objects/invalid-digest", "The Content-MD5 or checksum value that you specified is not valid."


class IncompleteBody(ObjectsError):
    code, status = "IncompleteBody", 400
    type, title = (
        "objects/incomplete-body",
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
    )


class EntityTooLarge(ObjectsError):
    code, status = "EntityTooLarge", 400
    type, title = "objects/entity-too-large", "Your proposed upload exceeds the maximum allowed size"


class EntityTooSmall(ObjectsError):
    code, status = "EntityTooSmall", 400
    type, title = "objects/entity-too-small", "Your proposed upload is smaller than the minimum allowed size"


class InvalidPart(ObjectsError):
    code, status = "InvalidPart", 400
    type, title = (
        "objects/invalid-part",
        "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified "
        "entity tag may not match the part's entity tag.",
    )


class InvalidPartOrder(ObjectsError):
    code, status = "InvalidPartOrder", 400
    type, title = (
        "objects/invalid-part-order",
        "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
    )


class MethodNotAllowed(ObjectsError):
    """A delete marker was asked for as if it were an object."""

    code, status = "MethodNotAllowed", 405
    type, title = "objects/method-not-allowed", "The specified method is not allowed against this resource."


class AccessDenied(ObjectsError):
    code, status = "AccessDenied", 403
    type, title = "objects/access-denied", "Access Denied"


class UnknownKey(ObjectsError):
    """A key to encrypt under that the key store does not have."""

    code, status = "KMS.NotFoundException", 400
    type, title = "objects/unknown-key", "The specified key does not exist"


class KeyDisabled(ObjectsError):
    code, status = "KMS.DisabledException", 400
    type, title = "objects/key-disabled", "The specified key is disabled"


class Locked(AccessDenied):
    """A retention period or a legal hold protects this version."""

    title = "Access Denied because object protected by object lock."


class InvalidBucketState(ObjectsError):
    code, status = "InvalidBucketState", 409
    type, title = "objects/invalid-bucket-state", "The request is not valid for the current state of the bucket."


class NoSuchConfiguration(ObjectsError):
    """A setting that was never given; the door knows under which code its kind is missed."""

    code, status = "NoSuchConfiguration", 404
    type, title = "objects/no-such-configuration", "The specified configuration does not exist"


class SlowDown(ObjectsError):
    code, status = "SlowDown", 503
    type, title = "objects/slow-down", "Please reduce your request rate."


class ServiceUnavailable(ObjectsError):
    """A shard could not be written durably just now; nothing was stored, and another try may do."""

    code, status = "ServiceUnavailable", 503
    type, title = "objects/service-unavailable", "Service is unable to handle request."


class StorageFull(ObjectsError):
    code, status = "StorageFull", 507
    type, title = "objects/storage-full", "The disks are too full to accept this write; reads go on."
