"""Which events of a bucket somebody wants to hear of: the rules of a notification configuration."""

import msgspec

from mainspring.core.manifest import manifests
from mainspring.storage.objects.s3.errors import S3Error
from mainspring.storage.objects.s3.patterns import pattern
from mainspring.storage.objects.s3.xml import Node, parse

RULES_MAX = 100
_KINDS = {
    "TopicConfiguration": "Topic",
    "QueueConfiguration": "Queue",
    "CloudFunctionConfiguration": "CloudFunction",
}
EVENTS = frozenset(
    {
        "s3:ObjectCreated:*",
        "s3:ObjectCreated:Put",
        "s3:ObjectCreated:Post",
        "s3:ObjectCreated:Copy",
        "s3:ObjectCreated:CompleteMultipartUpload",
        "s3:ObjectRemoved:*",
        "s3:ObjectRemoved:Delete",
        "s3:ObjectRemoved:DeleteMarkerCreated",
        "s3:ObjectRestore:*",
        "s3:ObjectTagging:*",
        "s3:ObjectTagging:Put",
        "s3:ObjectTagging:Delete",
        "s3:ObjectAcl:Put",
        "s3:LifecycleExpiration:*",
        "s3:LifecycleExpiration:Delete",
        "s3:LifecycleExpiration:DeleteMarkerCreated",
        "s3:LifecycleTransition",
        "s3:ReducedRedundancyLostObject",
        "s3:Replication:*",
        "s3:IntelligentTiering",
    }
)


class Rule(msgspec.Struct, frozen=True):
    """`target` is an ARN: its last part names a topic of the Log, or is a webhook's address."""

    id: str
    target: str
    events: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""

    def wants(self, event: str, key: str) -> bool:
        """Whether it asked for `event` (without `s3:`) of `key`."""
        name = f"s3:{event}"
        return (
            any(pattern(one)(name) for one in self.events) and key.startswith(self.prefix) and key.endswith(self.suffix)
        )

    @property
    def topic(self) -> str:
        """The topic of the Log, empty where a webhook is meant."""
        return "" if self.webhook else self.target.rpartition(":")[2]

    @property
    def webhook(self) -> str:
        """The address of a webhook: `arn:mainspring:webhook:::https://…`."""
        head, found, address = self.target.partition(":webhook:::")
        return address if found and head == "arn:mainspring" else ""


def check(root: Node) -> None:
    read(root)


def of_document(inner: bytes) -> list[Rule]:
    """The meaning of a document as it is kept."""
    return read(
        parse(b"<NotificationConfiguration>" + inner + b"</NotificationConfiguration>", "NotificationConfiguration")
    )


def read(root: Node) -> list[Rule]:
    """Raises `MalformedXML`, `InvalidArgument` for an event, a filter or a target that is none."""
    rules: list[Rule] = []
    for node in root.children:
        if node.name == "EventBridgeConfiguration":
            continue
        target = node.get(_KINDS[node.name]) if node.name in _KINDS else ""
        events = tuple(one.text for one in node.all("Event"))
        if not target or not events:
            raise S3Error("MalformedXML")
        if not target.startswith(("arn:aws:", "arn:mainspring:")) or target.count(":") < 5:
            raise S3Error(
                "InvalidArgument", "The ARN could not be validated.", ArgumentName="Topic", ArgumentValue=target[:200]
            )
        if _belongs_to_a_system(target):
            raise S3Error(
                "InvalidArgument",
                "Unable to validate the following destination configurations",
                ArgumentName="Topic",
                ArgumentValue=target[:200],
            )
        if any(event not in EVENTS for event in events):
            raise S3Error("InvalidArgument", "The event is not supported for notifications", ArgumentName="Event")
        prefix, suffix = _filter(node)
        rules.append(Rule(node.get("Id") or f"rule-{len(rules) + 1}", target, events, prefix, suffix))
    if len(rules) > RULES_MAX:
        raise S3Error("InvalidArgument", f"A bucket has at most {RULES_MAX} notification rules")
    return rules


def _belongs_to_a_system(target: str) -> bool:
    """Whether a target is a topic that a system writes itself (`objects.photos`), or one of the log's own: whoever has a bucket
    must not write there."""
    topic = Rule("", target, ()).topic
    family, dot, _ = topic.partition(".")
    return topic.startswith("_") or bool(dot and family in manifests())


def _filter(node: Node) -> tuple[str, str]:
    found = {"prefix": "", "suffix": ""}
    filters = node.one("Filter")
    key = filters.one("S3Key") if filters is not None else None
    for rule in key.all("FilterRule") if key is not None else ():
        name = rule.get("Name").lower()
        if name not in found or len(rule.get("Value")) > 1_024:
            raise S3Error(
                "InvalidArgument", "filter rule name must be either prefix or suffix", ArgumentName="FilterRule.Name"
            )
        found[name] = rule.get("Value")
    return found["prefix"], found["suffix"]
