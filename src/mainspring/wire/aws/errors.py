"""Why a signed request is not accepted, with the codes that every AWS service uses for it."""

from typing import Any, ClassVar

from mainspring.core.problems import Problem


class AwsError(Problem):
    """An error that AWS clients know by its `code`. Wire layers write it in their own form."""

    code: ClassVar[str] = "InternalError"
    type = "aws/error"

    def __init__(self, detail: str = "", **more: Any) -> None:
        super().__init__(detail or self.title, **more)


class AccessDenied(AwsError):
    status, code, title = 403, "AccessDenied", "Access Denied"
    type = "aws/access-denied"


class SignatureDoesNotMatch(AwsError):
    status, code = 403, "SignatureDoesNotMatch"
    type = "aws/signature-does-not-match"
    title = "The request signature we calculated does not match the signature you provided. Check your key and signing method."


class InvalidAccessKeyId(AwsError):
    status, code = 403, "InvalidAccessKeyId"
    type = "aws/invalid-access-key-id"
    title = "The AWS Access Key Id you provided does not exist in our records."


class InvalidToken(AwsError):
    status, code = 400, "InvalidToken"
    type = "aws/invalid-token"
    title = "The provided token is malformed or otherwise invalid."


class ExpiredToken(AwsError):
    status, code = 400, "ExpiredToken"
    type = "aws/expired-token"
    title = "The provided token has expired."


class RequestTimeTooSkewed(AwsError):
    status, code = 403, "RequestTimeTooSkewed"
    type = "aws/request-time-too-skewed"
    title = "The difference between the request time and the current time is too large."


class AuthorizationHeaderMalformed(AwsError):
    status, code = 400, "AuthorizationHeaderMalformed"
    type = "aws/authorization-header-malformed"
    title = "The authorization header is malformed."


class AuthorizationQueryParametersError(AwsError):
    status, code = 400, "AuthorizationQueryParametersError"
    type = "aws/authorization-query-parameters"
    title = "The query parameters that sign this request are not complete or not valid."


class IncompleteBody(AwsError):
    status, code = 400, "IncompleteBody"
    type = "aws/incomplete-body"
    title = "You did not provide the number of bytes specified by the Content-Length HTTP header."


class ContentHashMismatch(AwsError):
    status, code = 400, "XAmzContentSHA256Mismatch"
    type = "aws/content-sha256-mismatch"
    title = "The provided 'x-amz-content-sha256' header does not match what was computed."


class MalformedTrailer(AwsError):
    status, code = 400, "MalformedTrailerError"
    type = "aws/malformed-trailer"
    title = "The request contained trailing data that was not well-formed or did not conform to our published schema."


class InvalidChunkSize(AwsError):
    status, code = 400, "InvalidChunkSizeError"
    type = "aws/invalid-chunk-size"
    title = "Only the last chunk is allowed to have a size less than 8192 bytes."
