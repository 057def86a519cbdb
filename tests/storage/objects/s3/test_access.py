"""Who may do what over S3: strangers, other accounts, policies, lists, ownership, blocks, and temporary credentials."""

import json
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.storage.objects.s3.running import Running, aside, code_of

ALICE, BOB = ("ALICEALICEALICEALICE", "alice's secret key"), ("BOBBOBBOBBOBBOBBOBBO", "bob's secret key")


def anonymous(running: Running) -> Any:
    config = Config(signature_version=UNSIGNED, s3={"addressing_style": "path"}, retries={"max_attempts": 1})
    return boto3.client("s3", endpoint_url=running.address, region_name="us-east-1", config=config)


def refused(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return code_of(error.value)


def public_read(bucket: str, **changes: Any) -> str:
    one = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
        **changes,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [one]})


async def test_a_policy_opens_a_bucket_to_strangers_until_a_block_closes_it(running: Running) -> None:
    def tour() -> None:
        alice, bob, nobody = running.client(*ALICE), running.client(*BOB), anonymous(running)
        alice.create_bucket(Bucket="open")
        alice.put_object(Bucket="open", Key="k", Body=b"hello")
        assert refused(nobody.get_object, Bucket="open", Key="k") == "AccessDenied"
        assert refused(bob.get_object, Bucket="open", Key="k") == "AccessDenied"
        alice.put_bucket_policy(Bucket="open", Policy=public_read("open"))
        assert nobody.get_object(Bucket="open", Key="k")["Body"].read() == b"hello"
        assert bob.get_object(Bucket="open", Key="k")["Body"].read() == b"hello"
        assert refused(nobody.get_object, Bucket="open", Key="none") == "AccessDenied"
        assert refused(nobody.put_object, Bucket="open", Key="k", Body=b"") == "AccessDenied"
        assert alice.get_bucket_policy_status(Bucket="open")["PolicyStatus"]["IsPublic"] is True
        block = {
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
        }
        alice.put_public_access_block(Bucket="open", PublicAccessBlockConfiguration=block)
        assert refused(nobody.get_object, Bucket="open", Key="k") == "AccessDenied"
        assert alice.get_object(Bucket="open", Key="k")["Body"].read() == b"hello"
        assert refused(alice.put_bucket_policy, Bucket="open", Policy=public_read("open")) == "AccessDenied"
        assert alice.get_public_access_block(Bucket="open")["PublicAccessBlockConfiguration"] == block

    await aside(tour)


async def test_a_deny_binds_its_own_owner_who_can_still_mend_it(running: Running) -> None:
    def tour() -> None:
        alice = running.client(*ALICE)
        alice.create_bucket(Bucket="deny")
        alice.put_object(Bucket="deny", Key="k", Body=b"")
        everything = ["arn:aws:s3:::deny", "arn:aws:s3:::deny/*"]
        alice.put_bucket_policy(
            Bucket="deny", Policy=public_read("deny", Effect="Deny", Action="s3:*", Resource=everything)
        )
        assert refused(alice.get_object, Bucket="deny", Key="k") == "AccessDenied"
        assert refused(alice.list_objects_v2, Bucket="deny") == "AccessDenied"
        alice.delete_bucket_policy(Bucket="deny")
        alice.get_object(Bucket="deny", Key="k")

    await aside(tour)


async def test_a_policy_can_ask_for_a_prefix_an_encryption_and_a_tag(running: Running) -> None:
    def tour() -> None:
        alice, bob = running.client(*ALICE), running.client(*BOB)
        alice.create_bucket(Bucket="asks")
        alice.put_object(Bucket="asks", Key="red", Body=b"", Tagging="color=red")
        alice.put_object(Bucket="asks", Key="blue", Body=b"", Tagging="color=blue")
        bobs = bob.list_buckets()["Owner"]["ID"]
        allow = {"Effect": "Allow", "Principal": {"CanonicalUser": bobs}}
        statements = [
            {
                **allow,
                "Action": "s3:ListBucket",
                "Resource": "arn:aws:s3:::asks",
                "Condition": {"StringEquals": {"s3:prefix": "home/"}},
            },
            {
                **allow,
                "Action": "s3:PutObject",
                "Resource": "arn:aws:s3:::asks/*",
                "Condition": {"StringEquals": {"s3:x-amz-server-side-encryption": "AES256"}},
            },
            {
                **allow,
                "Action": "s3:GetObject",
                "Resource": "arn:aws:s3:::asks/*",
                "Condition": {"StringEquals": {"s3:ExistingObjectTag/color": "red"}},
            },
        ]
        alice.put_bucket_policy(Bucket="asks", Policy=json.dumps({"Version": "2012-10-17", "Statement": statements}))
        bob.list_objects_v2(Bucket="asks", Prefix="home/")
        assert refused(bob.list_objects_v2, Bucket="asks") == "AccessDenied"
        bob.put_object(Bucket="asks", Key="home/k", Body=b"", ServerSideEncryption="AES256")
        assert refused(bob.put_object, Bucket="asks", Key="home/k", Body=b"") == "AccessDenied"
        bob.get_object(Bucket="asks", Key="red")
        assert refused(bob.get_object, Bucket="asks", Key="blue") == "AccessDenied"

    await aside(tour)


async def test_lists_count_only_where_the_bucket_lets_them(running: Running) -> None:
    def tour() -> None:
        alice, bob, nobody = running.client(*ALICE), running.client(*BOB), anonymous(running)
        alice.create_bucket(Bucket="enforced")
        assert (
            refused(alice.put_object, Bucket="enforced", Key="k", Body=b"", ACL="public-read")
            == "AccessControlListNotSupported"
        )
        alice.put_object(Bucket="enforced", Key="k", Body=b"", ACL="bucket-owner-full-control")
        assert refused(alice.put_bucket_acl, Bucket="enforced", ACL="public-read") == "AccessControlListNotSupported"
        alice.create_bucket(Bucket="lists", ObjectOwnership="ObjectWriter")
        alice.put_object(Bucket="lists", Key="k", Body=b"hello", ACL="public-read")
        alice.put_object(Bucket="lists", Key="mine", Body=b"")
        assert nobody.get_object(Bucket="lists", Key="k")["Body"].read() == b"hello"
        assert refused(nobody.get_object, Bucket="lists", Key="mine") == "AccessDenied"
        bobs = bob.list_buckets()["Owner"]["ID"]
        alice.put_bucket_acl(Bucket="lists", GrantWrite=f"id={bobs}", GrantRead='emailAddress="bob@example.org"')
        bob.put_object(Bucket="lists", Key="bobs", Body=b"bob")
        assert {one["Key"] for one in bob.list_objects_v2(Bucket="lists", FetchOwner=True)["Contents"]} == {
            "k",
            "mine",
            "bobs",
        }
        assert refused(alice.get_object, Bucket="lists", Key="bobs") == "AccessDenied"
        bob.put_object_acl(Bucket="lists", Key="bobs", ACL="bucket-owner-read")
        assert alice.get_object(Bucket="lists", Key="bobs")["Body"].read() == b"bob"
        listed = bob.get_object_acl(Bucket="lists", Key="bobs")
        assert [one["Permission"] for one in listed["Grants"]] == ["FULL_CONTROL", "READ"]
        alice.put_public_access_block(
            Bucket="lists", PublicAccessBlockConfiguration={"IgnorePublicAcls": True, "BlockPublicAcls": True}
        )
        assert refused(nobody.get_object, Bucket="lists", Key="k") == "AccessDenied"
        assert refused(alice.put_object_acl, Bucket="lists", Key="k", ACL="public-read") == "AccessDenied"
        alice.delete_public_access_block(Bucket="lists")
        alice.put_bucket_acl(Bucket="lists", ACL="private")
        alice.put_bucket_ownership_controls(
            Bucket="lists", OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        )
        assert alice.get_object(Bucket="lists", Key="bobs")["Body"].read() == b"bob"
        assert refused(nobody.get_object, Bucket="lists", Key="k") == "AccessDenied"

    await aside(tour)


async def test_a_list_as_a_document_comes_back_as_it_was_put(running: Running) -> None:
    def tour() -> None:
        alice = running.client(*ALICE)
        alice.create_bucket(Bucket="document", ObjectOwnership="ObjectWriter")
        listed = alice.get_bucket_acl(Bucket="document")
        everybody = {
            "Grantee": {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"},
            "Permission": "READ",
        }
        grants = {"Owner": listed["Owner"], "Grants": [*listed["Grants"], everybody]}
        alice.put_bucket_acl(Bucket="document", AccessControlPolicy=grants)
        assert alice.get_bucket_acl(Bucket="document")["Grants"] == grants["Grants"]
        anonymous(running).list_objects_v2(Bucket="document")
        stolen = {**grants, "Owner": {"ID": "f" * 64}}
        assert refused(alice.put_bucket_acl, Bucket="document", AccessControlPolicy=stolen) == "AccessDenied"

    await aside(tour)


def sts(running: Running, keys: tuple[str, str]) -> Any:
    return boto3.client(
        "sts",
        endpoint_url=running.address,
        region_name="us-east-1",
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
    )


async def test_temporary_credentials_do_what_their_policy_lets_them(running: Running) -> None:
    def tour() -> None:
        alice = running.client(*ALICE)
        alice.create_bucket(Bucket="temporary")
        alice.put_object(Bucket="temporary", Key="k", Body=b"hello")
        account = sts(running, ALICE).get_caller_identity()["Account"]
        policy = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::temporary/*"}
        made = sts(running, ALICE).assume_role(
            RoleArn=f"arn:aws:iam::{account}:role/reader",
            RoleSessionName="tour",
            DurationSeconds=900,
            Policy=json.dumps({"Version": "2012-10-17", "Statement": [policy]}),
        )
        assert made["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{account}:assumed-role/reader/tour"
        keys = made["Credentials"]
        reader = running.client(keys["AccessKeyId"], keys["SecretAccessKey"], aws_session_token=keys["SessionToken"])
        assert reader.get_object(Bucket="temporary", Key="k")["Body"].read() == b"hello"
        assert refused(reader.put_object, Bucket="temporary", Key="k", Body=b"") == "AccessDenied"
        assert refused(reader.list_buckets) == "AccessDenied"
        without = running.client(keys["AccessKeyId"], keys["SecretAccessKey"])
        assert refused(without.list_buckets) == "InvalidToken"
        forged = running.client(
            keys["AccessKeyId"], keys["SecretAccessKey"], aws_session_token="x" + keys["SessionToken"][1:]
        )
        assert refused(forged.list_buckets) == "InvalidToken"
        session = sts(running, ALICE).get_session_token(DurationSeconds=900)["Credentials"]
        whole = running.client(
            session["AccessKeyId"], session["SecretAccessKey"], aws_session_token=session["SessionToken"]
        )
        whole.put_object(Bucket="temporary", Key="new", Body=b"")
        assert (
            refused(sts(running, ALICE).assume_role, RoleArn="arn:aws:iam::999999999999:role/x", RoleSessionName="no")
            == "AccessDenied"
        )
        assert refused(sts(running, (ALICE[0], "wrong")).get_session_token) == "SignatureDoesNotMatch"

    await aside(tour)


async def test_a_token_that_may_only_read_reads_only_and_ends_at_once(running: Running) -> None:
    from mainspring.core.accounts.key_pairs import access_key_of, secret_key_of
    from mainspring.core.accounts.model import OPERATOR, digest

    await aside(lambda: running.client().create_bucket(Bucket="scopes"))
    accounts = running.mainspring.accounts
    made = await accounts.create_token(OPERATOR, "reader", ["objects:read"])
    reader = running.client(access_key_of(made.token.id), secret_key_of(digest(made.secret)))

    def reads() -> None:
        reader.list_objects_v2(Bucket="scopes")
        assert refused(reader.put_object, Bucket="scopes", Key="k", Body=b"") == "AccessDenied"

    await aside(reads)
    await accounts.revoke_token(OPERATOR, made.token.id)
    assert await aside(refused, reader.list_objects_v2, Bucket="scopes") == "InvalidAccessKeyId"
