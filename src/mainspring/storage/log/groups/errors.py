"""What a group's coordinator refuses, beside what all do, each under the name and number that Kafka gives it."""

from mainspring.storage.log.coordinator_errors import CoordinatorError


class GroupError(CoordinatorError):
    status, type, title = 409, "log/group", "The group's coordinator refuses this"


class OffsetMetadataTooLarge(GroupError):
    status, type, title = 422, "log/offset-metadata-too-large", "The metadata of an offset is too long"
    kafka_code = 12


class IllegalGeneration(GroupError):
    type, title = "log/illegal-generation", "This generation of the group is over"
    kafka_code = 22


class InconsistentGroupProtocol(GroupError):
    type, title = "log/inconsistent-group-protocol", "The member shares no protocol with the group"
    kafka_code = 23


class InvalidGroupId(GroupError):
    status, type, title = 422, "log/invalid-group-id", "This is not the name of a group"
    kafka_code = 24


class UnknownMemberId(GroupError):
    type, title = "log/unknown-member-id", "The group has no such member"
    kafka_code = 25


class InvalidSessionTimeout(GroupError):
    status, type, title = 422, "log/invalid-session-timeout", "The session timeout is not within the allowed range"
    kafka_code = 26


class RebalanceInProgress(GroupError):
    type, title = "log/rebalance-in-progress", "The group is rebalancing; rejoin"
    kafka_code = 27


class UnsupportedVersion(GroupError):
    status, type, title = 422, "log/unsupported-version", "This version of the request cannot be answered"
    kafka_code = 35


class InvalidCommitOffsetSize(GroupError):
    status, type, title = 507, "log/invalid-commit-offset-size", "There are as many positions as there may be"
    kafka_code = 28


class NonEmptyGroup(GroupError):
    type, title = "log/non-empty-group", "The group has members"
    kafka_code = 68


class GroupIdNotFound(GroupError):
    status, type, title = 404, "log/group-id-not-found", "There is no such group"
    kafka_code = 69


class MemberIdRequired(GroupError):
    """`member_id` is the one to join with."""

    type, title = "log/member-id-required", "Join again with the member id of this answer"
    kafka_code = 79

    def __init__(self, member_id: str) -> None:
        super().__init__()
        self.member_id = member_id


class GroupMaxSizeReached(GroupError):
    type, title = "log/group-max-size-reached", "The group, or the node, has as many members or groups as it may have"
    kafka_code = 81


class FencedInstanceId(GroupError):
    type, title = "log/fenced-instance-id", "Another member has joined with this instance id"
    kafka_code = 82


class GroupSubscribedToTopic(GroupError):
    type, title = "log/group-subscribed-to-topic", "The group reads this topic"
    kafka_code = 86


class UnstableOffsetCommit(GroupError):
    type, title = "log/unstable-offset-commit", "A transaction that commits this offset is still open"
    kafka_code = 88


class FencedMemberEpoch(GroupError):
    type, title = "log/fenced-member-epoch", "The member's epoch is not the group's; give all up and rejoin"
    kafka_code = 110


class UnreleasedInstanceId(GroupError):
    type, title = "log/unreleased-instance-id", "Another member still holds this instance id"
    kafka_code = 111


class UnsupportedAssignor(GroupError):
    status, type, title = 422, "log/unsupported-assignor", "There is no assignor of this name"
    kafka_code = 112


class StaleMemberEpoch(GroupError):
    type, title = "log/stale-member-epoch", "The member has a newer epoch; try again with it"
    kafka_code = 113


class InvalidRegularExpression(GroupError):
    status, type, title = 422, "log/invalid-regular-expression", "RE2 cannot read this regular expression"
    kafka_code = 128


class InvalidRecordState(GroupError):
    type, title = "log/invalid-record-state", "The record is not the member's to acknowledge"
    kafka_code = 121


class ShareSessionNotFound(GroupError):
    status, type, title = 404, "log/share-session-not-found", "There is no such share session; open one"
    kafka_code = 122


class InvalidShareSessionEpoch(GroupError):
    type, title = "log/invalid-share-session-epoch", "The share session is at another epoch"
    kafka_code = 123


class ShareSessionLimitReached(GroupError):
    status, type, title = 503, "log/share-session-limit-reached", "There are as many share sessions as there may be"
    kafka_code = 133
