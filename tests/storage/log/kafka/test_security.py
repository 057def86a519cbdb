"""Who a client is and what it may do, with real clients and over the bare protocol."""

import datetime
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mainspring.core.tls import Tls
from mainspring.storage.log.kafka.registry import ApiKey
from mainspring.storage.log.kafka.security import Token
from mainspring.storage.log.kafka.settings import KafkaSettings
from mainspring.storage.log.kafka.users import UsersFileInvalid, take_in
from mainspring.storage.log.records import Record, build
from tests.fixtures_kafka import OurBroker
from tests.storage.log.kafka.topics import BATCH, NOW_MS, fetched, make_topic, parts, produce
from tests.storage.log.kafka.wire import Wire, answer_of, framed, request

PATIENCE_S = 60.0
USERS = """
[[users]]
name = "root"
password = "root-secret"

[[users]]
name = "alice"
password = "alice-secret"
mechanisms = ["SCRAM-SHA-512"]

[[acls]]
principal = "User:alice"
operation = "READ"
resource = "TOPIC"
name = "ord"
pattern = "PREFIXED"
"""
Make = Callable[..., OurBroker]


def guarded(make: Make, folder: Path, **settings: Any) -> OurBroker:
    """A broker that lets in only those of `USERS`."""
    chosen: dict[str, Any] = {
        "authentication": True,
        "super_users": ("User:root",),
        "failed_authentication_delay_s": 0.0,
    }
    chosen |= {"allow_everyone_if_no_acl_found": False} | settings
    broker = make(settings=KafkaSettings(**chosen), find_token=find_token)
    file = folder / "users.toml"
    file.write_text(USERS)
    broker.call(lambda: take_in(file, broker.broker.state))
    return broker


async def find_token(token: str) -> Token | None:
    """Stands for the house's accounts: one account with one token, which ends in an hour."""
    return Token("carol", time.time_ns() // 1000 + 3_600_000_000) if token == "carols-token" else None


def sasl(broker: OurBroker, mechanism: str, user: str, password: str) -> dict[str, Any]:
    settings = {"security.protocol": "sasl_plaintext", "sasl.mechanism": mechanism, "bootstrap.servers": broker.address}
    return settings | {"sasl.username": user, "sasl.password": password}


def topics(config: dict[str, Any]) -> list[str]:
    return sorted(AdminClient(config).list_topics(timeout=PATIENCE_S).topics)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_real_client_logs_in_with_its_password(make_ours: Make, tmp_path: Path, mechanism: str) -> None:
    broker = guarded(make_ours, tmp_path)
    assert topics(sasl(broker, mechanism, "root", "root-secret")) == []


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_wrong_password_or_an_unknown_user_is_refused(make_ours: Make, tmp_path: Path, mechanism: str) -> None:
    broker = guarded(make_ours, tmp_path)
    for user, password in (("root", "wrong"), ("nobody", "root-secret")):
        errors: list[KafkaError] = []
        config = sasl(broker, mechanism, user, password) | {"error_cb": errors.append, "log_level": 0}
        admin = AdminClient(config)
        for _ in range(600):
            admin.poll(0.1)
            if any(error.code() == KafkaError._AUTHENTICATION for error in errors):
                break
        else:
            raise AssertionError(f"not refused: {errors}")


def test_a_token_of_an_account_logs_in_and_says_when_that_ends(make_ours: Make, tmp_path: Path) -> None:
    broker = guarded(make_ours, tmp_path, allow_everyone_if_no_acl_found=True)
    config = {
        "bootstrap.servers": broker.address,
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "OAUTHBEARER",
    }
    config |= {"oauth_cb": lambda _: ("carols-token", time.time() + 3600)}  # type: ignore[dict-item]
    assert topics(config) == []
    with Wire(broker.port) as wire:
        assert wire.call(ApiKey.SASL_HANDSHAKE, 1, mechanism="OAUTHBEARER").error_code == 0
        message = b"n,,\x01auth=Bearer carols-token\x01\x01"
        answer = wire.call(ApiKey.SASL_AUTHENTICATE, 2, auth_bytes=message)
        assert answer.error_code == 0
        assert datetime.timedelta(minutes=59) < answer.session_lifetime <= datetime.timedelta(hours=1)
    with Wire(broker.port) as wire:
        wire.call(ApiKey.SASL_HANDSHAKE, 1, mechanism="OAUTHBEARER")
        first = wire.call(ApiKey.SASL_AUTHENTICATE, 2, auth_bytes=b"n,,\x01auth=Bearer stolen\x01\x01")
        assert (first.error_code, first.auth_bytes) == (0, b'{"status":"invalid_token"}')
        assert wire.call(ApiKey.SASL_AUTHENTICATE, 2, auth_bytes=b"\x01").error_code == 58
        assert wire.is_closed()


def test_a_refused_login_is_answered_after_a_delay_and_then_closed(make_ours: Make, tmp_path: Path) -> None:
    broker = guarded(make_ours, tmp_path, failed_authentication_delay_s=0.35)
    with Wire(broker.port) as wire:
        assert wire.call(ApiKey.SASL_HANDSHAKE, 1, mechanism="PLAIN").error_code == 0
        begun = time.monotonic()
        answer = wire.call(ApiKey.SASL_AUTHENTICATE, 1, auth_bytes=b"\0root\0wrong")
        assert (answer.error_code, time.monotonic() - begun >= 0.3) == (58, True)
        assert wire.is_closed()


def test_an_unknown_mechanism_is_answered_with_those_that_are_offered(make_ours: Make, tmp_path: Path) -> None:
    broker = guarded(make_ours, tmp_path)
    with Wire(broker.port) as wire:
        answer = wire.call(ApiKey.SASL_HANDSHAKE, 1, mechanism="GSSAPI")
        assert answer.error_code == 33
        assert answer.mechanisms == ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
        assert wire.is_closed()
    with Wire(broker.port) as wire:
        assert wire.call(ApiKey.SASL_AUTHENTICATE, 1, auth_bytes=b"\0root\0root-secret").error_code == 34
        assert wire.is_closed()


def test_an_old_client_logs_in_without_headers(make_ours: Make, tmp_path: Path) -> None:
    broker = guarded(make_ours, tmp_path)
    with Wire(broker.port) as wire:
        assert wire.call(ApiKey.SASL_HANDSHAKE, 0, mechanism="PLAIN").error_code == 0
        wire.send(framed(b"\0root\0root-secret"))
        assert wire.frame() == b""
        assert wire.call(ApiKey.METADATA, 1, topics=None).topics == ()


def login(wire: Wire, user: str, password: str) -> int:
    assert wire.call(ApiKey.SASL_HANDSHAKE, 1, mechanism="PLAIN").error_code == 0
    message = f"\0{user}\0{password}".encode()
    return int(wire.call(ApiKey.SASL_AUTHENTICATE, 2, auth_bytes=message).error_code)


def test_a_client_logs_in_again_as_itself_and_as_nobody_else(make_ours: Make, tmp_path: Path) -> None:
    broker = guarded(make_ours, tmp_path)
    with Wire(broker.port) as wire:
        assert login(wire, "root", "root-secret") == 0
        assert login(wire, "root", "root-secret") == 0
        assert login(wire, "alice", "alice-secret") == 58
        assert wire.is_closed()


def test_an_authentication_that_has_ended_lets_nothing_through(make_ours: Make, tmp_path: Path) -> None:
    broker = guarded(make_ours, tmp_path)
    with Wire(broker.port) as wire:
        assert login(wire, "root", "root-secret") == 0
        for connection in list(broker.listener._open):
            connection._session.expires_ns = 0
        wire.send(request(ApiKey.METADATA, 1, topics=None))
        assert wire.is_closed()


def test_a_client_may_do_what_it_is_allowed_and_nothing_else(make_ours: Make, tmp_path: Path) -> None:
    broker = guarded(make_ours, tmp_path)
    with Wire(broker.port) as root, Wire(broker.port) as alice:
        assert login(root, "root", "root-secret") == 0
        assert login(alice, "alice", "alice-secret") == 0
        assert (make_topic(root, "orders"), make_topic(root, "secrets"), make_topic(alice, "mine")) == (0, 0, 29)
        assert produce(root, BATCH, "orders") == 0
        assert produce(alice, BATCH, "orders") == 29
        assert parts(fetched(alice, {0: 0}, "orders"))[0].error_code == 0
        assert parts(fetched(alice, {0: 0}, "secrets"))[0].error_code == 29
        seen = alice.call(ApiKey.METADATA, 9, topics=None, include_topic_authorized_operations=True).topics
        assert [topic.name for topic in seen] == ["orders"]
        assert seen[0].topic_authorized_operations == 1 << 3 | 1 << 8
        asked = [{"name": "secrets"}, {"name": "orders"}]
        codes = [topic.error_code for topic in alice.call(ApiKey.METADATA, 9, topics=asked).topics]
        assert codes == [29, 0]
        answer = alice.call(ApiKey.DELETE_TOPICS, 5, topic_names=["orders"], timeout_ms=1000)
        assert answer.responses[0].error_code == 29
        assert (
            alice.call(ApiKey.DESCRIBE_ACLS, 2, resource_type_filter=1, operation=1, permission_type=1).error_code == 31
        )
        assert alice.call(ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, components=[], strict=False).error_code == 31
        assert alice.call(ApiKey.DESCRIBE_USER_SCRAM_CREDENTIALS, 0, users=None).error_code == 31


def test_acls_are_made_shown_and_unmade_by_a_real_client(make_ours: Make, tmp_path: Path) -> None:
    broker = guarded(make_ours, tmp_path)
    admin = AdminClient(sasl(broker, "SCRAM-SHA-256", "root", "root-secret"))
    allow, literal = AclPermissionType.ALLOW, ResourcePatternType.LITERAL
    new = AclBinding(ResourceType.TOPIC, "secrets", literal, "User:alice", "*", AclOperation.READ, allow)
    (made,) = admin.create_acls([new]).values()
    assert made.result(PATIENCE_S) is None
    anything = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    names = sorted(one.name for one in admin.describe_acls(anything).result(PATIENCE_S))
    assert names == ["ord", "secrets"]
    bad = AclBinding(ResourceType.BROKER, "wrong", literal, "User:alice", "*", AclOperation.READ, allow)
    (refused,) = admin.create_acls([bad]).values()
    with pytest.raises(KafkaException):
        refused.result(PATIENCE_S)
    matching = AclBindingFilter(
        ResourceType.TOPIC, "secrets", ResourcePatternType.MATCH, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    (gone,) = admin.delete_acls([matching]).values()
    assert [one.name for one in gone.result(PATIENCE_S)] == ["secrets"]
    broker.stop()
    broker.start()
    assert [one.name for one in broker.broker.security.acls] == ["ord"], "what was changed outlives a restart"


def test_a_users_file_that_makes_no_sense_is_refused(tmp_path: Path, ours: OurBroker) -> None:
    for text in (
        "[[users]]\nname = 'x'",
        "[[acls]]\nprincipal = 'User:a'",
        "users = 3",
        "[[users]]\nname='a'\nsecret='b'",
    ):
        file = tmp_path / "users.toml"
        file.write_text(text)
        with pytest.raises(UsersFileInvalid):
            ours.call(partial(take_in, file, ours.broker.state))


class Authority:
    """A certificate authority of the test's own, with PEM files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._sign(self._name, self._key, authority=True))

    def issue(self, name: str, organization: str = "") -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if organization:
            parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        certificate, private = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        certificate.write_bytes(self._sign(x509.Name(parts), key, authority=False))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, private

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> bytes:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_tls_and_a_clients_certificate_say_who_it_is(make_ours: Make, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, server_key = authority.issue("server")
    alice, alice_key = authority.issue("alice", "Example")
    context = Tls(server, server_key, clients=authority.file).context()
    settings = KafkaSettings(
        authentication=True, super_users=("User:CN=alice,O=Example",), allow_everyone_if_no_acl_found=False
    )
    broker = make_ours(settings=settings, ssl=context)
    config = {
        "bootstrap.servers": broker.address,
        "security.protocol": "ssl",
        "ssl.ca.location": str(authority.file),
        "ssl.endpoint.identification.algorithm": "none",
        "ssl.certificate.location": str(alice),
        "ssl.key.location": str(alice_key),
    }
    delivered: list[KafkaError | None] = []
    producer = Producer(config)
    for _ in range(50):
        producer.produce("t", b"x" * 10_000, on_delivery=lambda error, _: delivered.append(error))
    assert producer.flush(PATIENCE_S) == 0
    assert delivered == [None] * 50
    consumer = Consumer(config | {"group.id": "g", "enable.auto.commit": False})
    consumer.assign([TopicPartition("t", 0, 0)])
    count = 0
    for _ in range(600):
        count += len(consumer.consume(50, 0.1))
        if count == 50:
            break
    consumer.close()
    assert count == 50


def test_a_client_over_its_quota_is_told_to_wait_and_not_read_for_as_long(ours: OurBroker) -> None:
    with Wire(ours.port) as wire:
        make_topic(wire)
        ops = [{"key": "producer_byte_rate", "value": 1000.0, "remove": False}]
        entity = [{"entity_type": "client-id", "entity_name": "wire"}]
        entry = {"entity": entity, "ops": ops}
        assert wire.call(ApiKey.ALTER_CLIENT_QUOTAS, 1, entries=[entry], validate_only=False).entries[0].error_code == 0
        answer = wire.call(ApiKey.DESCRIBE_CLIENT_QUOTAS, 1, components=[], strict=False)
        assert [(one.entity[0].entity_name, one.values[0].value) for one in answer.entries] == [("wire", 1000.0)]
        data = [{"name": "t", "partition_data": [{"index": 0, "records": BATCH}]}]
        fields = {"acks": -1, "timeout_ms": 1000, "topic_data": data}
        waits = []
        begun = time.monotonic()
        for _ in range(12):
            waits.append(wire.call(ApiKey.PRODUCE, 9, **fields).throttle_time / datetime.timedelta(milliseconds=1))
        took_ms = (time.monotonic() - begun) * 1000
        assert waits[0] == 0
        assert 0 < max(waits) < 1000
        assert took_ms >= sum(waits[:-1]), "a client that does not wait by itself is made to"
        bad = {"entity": entity, "ops": [{"key": "no_such", "value": 1.0, "remove": False}]}
        assert wire.call(ApiKey.ALTER_CLIENT_QUOTAS, 1, entries=[bad], validate_only=False).entries[0].error_code == 42


def test_what_a_client_says_of_itself_becomes_a_metric(ours: OurBroker) -> None:
    from mainspring.storage.log.kafka.telemetry import NotOtlp, numbers

    def field(number: int, payload: bytes) -> bytes:
        return bytes([number << 3 | 2, len(payload)]) + payload

    point = b"\x21" + bytes(6) + b"\xf8\x3f"
    metric = field(1, b"latency.avg") + field(5, field(1, point))
    pushed = field(1, field(2, field(2, metric)))
    assert list(numbers(pushed)) == [("latency.avg", 1.5)]
    with pytest.raises(NotOtlp):
        list(numbers(b"\xff\xff"))
    with Wire(ours.port) as wire:
        config = {"name": "metrics", "config_operation": 0, "value": "latency"}
        resource = {"resource_type": 16, "resource_name": "all", "configs": [config]}
        answer = wire.call(ApiKey.INCREMENTAL_ALTER_CONFIGS, 1, resources=[resource], validate_only=False)
        assert answer.responses[0].error_code == 0
        told = wire.call(ApiKey.GET_TELEMETRY_SUBSCRIPTIONS, 0, client_instance_id=None)
        assert told.requested_metrics == ("latency",)
        push = {"client_instance_id": told.client_instance_id, "compression_type": 0, "metrics": pushed}
        ids = {"subscription_id": told.subscription_id, "terminating": False}
        assert wire.call(ApiKey.PUSH_TELEMETRY, 0, **push, **ids).error_code == 0
        assert wire.call(ApiKey.PUSH_TELEMETRY, 0, **push, **ids).error_code == 89
        assert wire.call(ApiKey.PUSH_TELEMETRY, 0, **push, subscription_id=5, terminating=False).error_code == 117
        assert (
            'log_kafka_client_metric{client="wire",name="latency.avg"} 1.5' in ours.broker.metrics.exposition().decode()
        )


def test_after_its_login_a_client_may_send_large_frames(make_ours: Make, tmp_path: Path) -> None:
    broker = guarded(make_ours, tmp_path)
    with Wire(broker.port) as wire:
        assert login(wire, "root", "root-secret") == 0
        make_topic(wire, "large", max_message_bytes="5000000")
        wire.send(request(ApiKey.METADATA, 1, 5, topics=None))
        assert answer_of(ApiKey.METADATA, 1, wire.frame())[0] == 5
        assert produce(wire, build([Record(NOW_MS, None, b"x" * 600_000)]), "large") == 0
