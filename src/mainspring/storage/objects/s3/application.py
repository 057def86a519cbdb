"""What listens on port 9000: the S3 door over this process's object store and accounts."""

from mainspring.core.accounts import Accounts
from mainspring.core.clock import Clock
from mainspring.core.telemetry import Metrics
from mainspring.storage.objects.s3.addressing import Hosts
from mainspring.storage.objects.s3.door import Door
from mainspring.storage.objects.s3.identity import Identities
from mainspring.storage.objects.service import Objects
from mainspring.storage.objects.settings import ObjectsSettings


def application(
    objects: Objects, accounts: Accounts, settings: ObjectsSettings, clock: Clock, metrics: Metrics
) -> Door:
    """The door, with the names and accounts that the settings give."""
    return Door(
        objects,
        Identities(accounts, clock, settings.accounts),
        clock,
        metrics,
        region=settings.region,
        hosts=Hosts(settings.domains, [f"s3-website.{_below(domain)}" for domain in settings.domains]),
        anonymous_uploads_max=settings.anonymous_uploads_max,
    )


def _below(domain: str) -> str:
    """`localhost` of `s3.localhost`."""
    return domain.partition(".")[2] or domain
