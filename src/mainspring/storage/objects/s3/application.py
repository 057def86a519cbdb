"""The S3 door of an application, over its object store and its accounts as its settings say; and what listens on port 9000."""

from mainspring.core.accounts import Accounts
from mainspring.core.clock import Clock
from mainspring.core.ports import Log
from mainspring.core.serve.http1 import Http1Server
from mainspring.core.telemetry import Metrics
from mainspring.storage.objects.s3.addressing import Hosts
from mainspring.storage.objects.s3.door import Door
from mainspring.storage.objects.s3.identity import Identities
from mainspring.storage.objects.s3.notifier import Notifier
from mainspring.storage.objects.s3.quick import QuickReads
from mainspring.storage.objects.service import Objects
from mainspring.storage.objects.settings import ObjectsSettings


def make_door(objects: Objects, accounts: Accounts, settings: ObjectsSettings, clock: Clock, metrics: Metrics) -> Door:
    """One door, for the listener and for the JSON API, which shares its accounts and its view of buckets."""
    return Door(
        objects,
        Identities(accounts, clock, settings.accounts),
        clock,
        metrics,
        region=settings.region,
        hosts=Hosts(settings.domains, [f"s3-website.{_below(domain)}" for domain in settings.domains]),
        anonymous_uploads_max=settings.anonymous_uploads_max,
        signature_v2=settings.signature_v2,
    )


def make_notifier(
    objects: Objects, door: Door, log: Log, settings: ObjectsSettings, clock: Clock, metrics: Metrics
) -> Notifier:
    """Tells of buckets' events to whoever asked for it."""
    return Notifier(objects, door.buckets, log, clock, metrics, settings.region, settings.webhooks_allowed)


def application(door: Door, clock: Clock) -> Http1Server:
    """What listens on port 9000."""
    return Http1Server(door, clock, quick=QuickReads(door))


def _below(domain: str) -> str:
    """`localhost` of `s3.localhost`."""
    return domain.partition(".")[2] or domain
