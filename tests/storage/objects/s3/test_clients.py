"""The same tour by everybody else's clients: create, put, parts, a long listing, ranges, copies, conditions, delete, presign.

Clients that are programs run as processes beside the server; what is not installed is skipped with its reason.
"""

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.needs import REPOSITORY, need_module, need_program
from tests.social.links.peers import locked_python, npm_package, run_node
from tests.storage.objects.s3.running import Running, aside

MIB = 1 << 20
BODY = bytes(range(256)) * (11 * MIB // 256)
KEYS = 1_100
SDK_VERSION = "3.1175.0"
S3FS = REPOSITORY / "tests" / "peers" / "s3fs"


def run(*words: str, environment: dict[str, str] | None = None, folder: Path | None = None) -> str:
    """Runs a program to its end; gives what it wrote."""
    # What the machine says of the real AWS is not for these clients.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=240, cwd=folder, env={**kept, **(environment or {})}
    )
    assert done.returncode == 0, f"{words[:4]}: {done.stdout[-2_000:]}{done.stderr[-2_000:]}"
    return done.stdout


def environment(running: Running, folder: Path) -> dict[str, str]:
    """What the AWS tools read, and nothing of the machine's own configuration. They would presign as in 2006."""
    (folder / "aws-config").write_text("[default]\ns3 =\n    signature_version = s3v4\n")
    return {
        "AWS_ACCESS_KEY_ID": running.access_key,
        "AWS_SECRET_ACCESS_KEY": running.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": running.address,
        "AWS_CONFIG_FILE": str(folder / "aws-config"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(folder),
    }


async def filled(running: Running, bucket: str, keys: int = KEYS) -> None:
    """A bucket with many small objects, put in process."""
    from mainspring.storage.objects import Objects

    objects = await running.mainspring.service(Objects)
    await asyncio.gather(*(objects.put(bucket, f"many/{number:05}", b"x", size=1) for number in range(keys)))


async def test_minio(running: Running) -> None:
    need_module("minio")
    import minio
    from minio.commonconfig import CopySource
    from minio.deleteobjects import DeleteObject
    from minio.versioningconfig import ENABLED, VersioningConfig

    client = minio.Minio(running.host, access_key=running.access_key, secret_key=running.secret_key, secure=False)

    def first() -> None:
        client.make_bucket("minio")
        client.put_object("minio", "a b/ü", BytesIO(b"hello"), 5, metadata={"k": "v"})
        client.put_object("minio", "parts", BytesIO(BODY), -1, part_size=5 * MIB)
        with client.get_object("minio", "parts") as answer:
            assert answer.read() == BODY
        with client.get_object("minio", "a b/ü", offset=1, length=3) as answer:
            assert answer.read() == b"ell"
        assert client.stat_object("minio", "a b/ü").metadata["x-amz-meta-k"] == "v"
        etag = client.stat_object("minio", "parts").etag
        with pytest.raises(minio.error.S3Error, match="PreconditionFailed"):
            client.copy_object("minio", "copy", CopySource("minio", "parts", match_etag="0" * 32))
        client.copy_object("minio", "copy", CopySource("minio", "parts", match_etag=etag))

    def second() -> None:
        assert len(list(client.list_objects("minio", prefix="many/"))) == KEYS
        client.set_bucket_versioning("minio", VersioningConfig(ENABLED))
        client.put_object("minio", "copy", BytesIO(b""), 0)
        versions = list(client.list_objects("minio", prefix="copy", include_version=True))
        assert [one.size for one in versions] == [0, len(BODY)]
        wanted = [DeleteObject(one.object_name) for one in client.list_objects("minio", recursive=True)]
        assert list(client.remove_objects("minio", wanted)) == []
        assert list(client.list_objects("minio", recursive=True)) == []
        url = client.presigned_get_object(
            "minio", "copy", version_id=versions[1].version_id, expires=timedelta(hours=1)
        )
        assert run(need_program("curl"), "-sf", "-r", "0-3", url) == BODY[:4].decode()

    await aside(first)
    await filled(running, "minio")
    await aside(second)


async def test_obstore(running: Running) -> None:
    need_module("obstore")
    import obstore
    from obstore.store import S3Store

    await running.mainspring.service(_objects())
    await aside(lambda: running.client().create_bucket(Bucket="obstore"))
    options: dict[str, Any] = {"allow_http": True}
    store = S3Store(
        "obstore",
        endpoint=running.address,
        access_key_id=running.access_key,
        secret_access_key=running.secret_key,
        region="us-east-1",
        client_options=options,
    )
    await obstore.put_async(store, "a/b ü", b"hello")
    assert bytes(await (await obstore.get_async(store, "a/b ü")).bytes_async()) == b"hello"
    assert bytes(await obstore.get_range_async(store, "a/b ü", start=1, end=4)) == b"ell"
    await obstore.put_async(store, "parts", BytesIO(BODY), use_multipart=True, chunk_size=5 * MIB)
    assert bytes(await (await obstore.get_async(store, "parts")).bytes_async()) == BODY
    with pytest.raises(Exception, match="exists"):
        await obstore.put_async(store, "a/b ü", b"other", mode="create")
    meta = await obstore.head_async(store, "a/b ü")
    await obstore.put_async(store, "a/b ü", b"newer", mode={"e_tag": meta["e_tag"] or ""})
    with pytest.raises(Exception, match=r"(?i)precondition"):
        await obstore.put_async(store, "a/b ü", b"third", mode={"e_tag": meta["e_tag"] or ""})
    await filled(running, "obstore")
    assert sum([len(batch) async for batch in obstore.list(store, "many")]) == KEYS
    await obstore.copy_async(store, "parts", "copy")
    assert (await obstore.head_async(store, "copy"))["size"] == len(BODY)
    url = await obstore.sign_async(store, "GET", "a/b ü", timedelta(minutes=5))
    assert await aside(run, need_program("curl"), "-sf", url) == "newer"
    enabled = {"Status": "Enabled"}
    await aside(lambda: running.client().put_bucket_versioning(Bucket="obstore", VersioningConfiguration=enabled))
    first = await obstore.put_async(store, "kept", b"one")
    await obstore.put_async(store, "kept", b"two")
    old = await obstore.get_async(store, "kept", options={"version": first["version"] or ""})
    assert bytes(await old.bytes_async()) == b"one"
    await obstore.delete_async(store, ["parts", "copy", "a/b ü", "kept"])
    left = await obstore.list_with_delimiter_async(store)
    assert (left["objects"], left["common_prefixes"]) == ([], ["many"])


def _objects() -> Any:
    from mainspring.storage.objects import Objects

    return Objects


AWSCLI = """
import contextlib, io, json, sys
from awscli.clidriver import create_clidriver
seen, driver = [], create_clidriver()
for words in json.loads(sys.argv[1]):
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
        try:
            code = driver.main(words)
        except SystemExit as end:
            code = end.code
    seen.append([code, written.getvalue()])
print(json.dumps(seen))
"""
"""The AWS command line, once started for many commands: it takes longer to start than to do what it is told."""


async def test_awscli(running: Running, tmp_path: Path) -> None:
    need_module("awscli")
    variables = environment(running, tmp_path)
    (tmp_path / "large").write_bytes(BODY)

    def aws(*commands: list[str]) -> list[str]:
        """Gives what each command wrote; one whose words end in an error's code must fail with that."""
        plain = [command[:-1] if command[-1].startswith("!") else command for command in commands]
        text = run(sys.executable, "-c", AWSCLI, json.dumps(plain), environment=variables, folder=tmp_path)
        written = []
        for command, (code, said) in zip(commands, json.loads(text), strict=True):
            refusal = command[-1].removeprefix("!") if command[-1].startswith("!") else ""
            assert (code != 0) == bool(refusal) and refusal in said, f"{command}: {code} {said}"
            written.append(said)
        return written

    def tour() -> None:
        of = ["--bucket", "awscli", "--key", "folder/large file"]
        _, _, _, _, listed, _, _, _, _, _, versions, url, _ = aws(
            ["s3", "cp", "--quiet", "large", "s3://awscli/folder/large file"],
            ["s3", "cp", "--quiet", "s3://awscli/folder/large file", "back"],
            ["s3api", "get-object", *of, "--range", "bytes=5-8", "range"],
            ["s3api", "put-object", *of, "--if-none-match", "*", "!PreconditionFailed"],
            ["s3", "ls", "s3://awscli/many/", "--summarize"],
            ["s3", "cp", "--quiet", "s3://awscli/folder/large file", "s3://awscli/copy"],
            ["s3api", "put-bucket-versioning", "--bucket", "awscli", "--versioning-configuration", "Status=Enabled"],
            ["s3api", "put-object", *of],
            ["s3api", "head-object", "--bucket", "awscli", "--key", "none", "!404"],
            ["s3", "rm", "--quiet", "s3://awscli/folder/large file"],
            ["s3api", "list-object-versions", "--bucket", "awscli", "--prefix", "folder/", "--output", "json"],
            ["s3", "presign", "s3://awscli/copy"],
            ["s3", "rm", "--recursive", "--quiet", "s3://awscli/folder"],
        )
        assert (tmp_path / "back").read_bytes() == BODY and (tmp_path / "range").read_bytes() == BODY[5:9]
        assert listed.count("\n") > KEYS
        found = json.loads(versions)
        assert [one["Size"] for one in found["Versions"]] == [0, len(BODY)] and len(found["DeleteMarkers"]) == 1
        assert run(need_program("curl"), "-sf", "-r", "0-3", url.strip()) == BODY[:4].decode()

    await aside(aws, ["s3", "mb", "s3://awscli"])
    await filled(running, "awscli")
    await aside(tour)


def _beside_python(name: str) -> tuple[str, ...]:
    """The program of a Python package, in the environment that the tests run in."""
    return (str(Path(sys.executable).with_name(name)),)


async def test_s3cmd(running: Running, tmp_path: Path) -> None:
    program = need_program(*_beside_python("s3cmd"), "s3cmd")
    (tmp_path / "config").write_text(
        f"[default]\naccess_key = {running.access_key}\nsecret_key = {running.secret_key}\nhost_base = {running.host}\n"
        f"host_bucket = {running.host}\nuse_https = False\nmultipart_chunk_size_mb = 5\n"
    )
    (tmp_path / "large").write_bytes(BODY)

    def tour() -> None:
        def s3(*words: str) -> str:
            return run(program, "-c", "config", *words, folder=tmp_path)

        s3("put", "large", "s3://s3cmd/folder/a b+ü")
        s3("get", "s3://s3cmd/folder/a b+ü", "back")
        assert (tmp_path / "back").read_bytes() == BODY
        assert s3("ls", "s3://s3cmd/many/").count("\n") == KEYS
        s3("cp", "s3://s3cmd/folder/a b+ü", "s3://s3cmd/copy")
        url = s3("signurl", "s3://s3cmd/copy", "+600").strip()
        assert run(need_program("curl"), "-sf", "-r", "0-3", url) == BODY[:4].decode()
        (tmp_path / "back").write_bytes(BODY[:-7])
        s3("get", "--continue", "s3://s3cmd/copy", "back")
        assert (tmp_path / "back").read_bytes() == BODY
        s3("del", "--recursive", "--force", "s3://s3cmd")
        s3("setversioning", "s3://s3cmd", "enable")
        s3("rb", "s3://s3cmd")

    await aside(run, program, "-c", "config", "mb", "s3://s3cmd", folder=tmp_path)
    await filled(running, "s3cmd")
    await aside(tour)


@pytest.mark.peer
async def test_rclone(running: Running, tmp_path: Path) -> None:
    program = need_program("rclone")
    variables = {
        "RCLONE_CONFIG": str(tmp_path / "rclone.conf"),
        "RCLONE_CONFIG_O_TYPE": "s3",
        "RCLONE_CONFIG_O_PROVIDER": "Other",
        "RCLONE_CONFIG_O_ENDPOINT": running.address,
        "RCLONE_CONFIG_O_ACCESS_KEY_ID": running.access_key,
        "RCLONE_CONFIG_O_SECRET_ACCESS_KEY": running.secret_key,
        "RCLONE_CONFIG_O_REGION": "us-east-1",
    }
    (tmp_path / "tree" / "folder").mkdir(parents=True)
    (tmp_path / "tree" / "folder" / "large").write_bytes(BODY)
    (tmp_path / "tree" / "ü &.txt").write_text("hello")

    def tour() -> None:
        def rclone(*words: str) -> str:
            return run(program, *words, environment=variables, folder=tmp_path)

        rclone("sync", "tree", "o:rclone/tree", "--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M")
        rclone("check", "tree", "o:rclone/tree", "--download")
        rclone("copy", "o:rclone/tree", "back")
        assert (tmp_path / "back" / "folder" / "large").read_bytes() == BODY
        assert rclone("lsf", "o:rclone/many").count("\n") == KEYS
        rclone("moveto", "o:rclone/tree/ü &.txt", "o:rclone/moved")
        assert rclone("cat", "o:rclone/moved", "--offset", "1", "--count", "3") == "ell"
        assert run(need_program("curl"), "-sf", rclone("link", "o:rclone/moved").strip()) == "hello"
        running.client().put_bucket_versioning(Bucket="rclone", VersioningConfiguration={"Status": "Enabled"})
        (tmp_path / "newer").write_text("newer")
        rclone("copyto", "newer", "o:rclone/moved")
        kept = [name for name in rclone("lsf", "o:rclone", "--s3-versions").split("\n") if name.startswith("moved-v")]
        assert [rclone("cat", f"o:rclone/{name}", "--s3-versions") for name in kept] == ["hello"]
        rclone("purge", "o:rclone")

    await aside(run, program, "mkdir", "o:rclone", environment=variables, folder=tmp_path)
    await filled(running, "rclone")
    await aside(tour)


@pytest.mark.peer
async def test_restic(running: Running, tmp_path: Path) -> None:
    program = need_program("restic")
    variables = environment(running, tmp_path) | {
        "RESTIC_REPOSITORY": f"s3:{running.address}/restic",
        "RESTIC_PASSWORD": "secret",
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(12 * MIB))

    def tour() -> None:
        def restic(*words: str) -> str:
            return run(program, *words, environment=variables, folder=tmp_path)

        restic("init")
        restic("backup", "source")
        (source / "small").write_text("hello")
        restic("backup", "source")
        restic("check", "--read-data")
        restic("forget", "--keep-last", "1", "--prune")
        restic("restore", "latest", "--target", "back")
        assert (tmp_path / "back" / "source" / "large").read_bytes() == (source / "large").read_bytes()

    await aside(tour)


async def test_pyarrow(running: Running) -> None:
    need_module("pyarrow")
    from pyarrow import fs

    files = fs.S3FileSystem(
        access_key=running.access_key,
        secret_key=running.secret_key,
        endpoint_override=running.host,
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
    )

    def tour() -> None:
        files.create_dir("arrow/folder")
        with files.open_output_stream("arrow/folder/large") as target:
            for at in range(0, len(BODY), MIB):
                target.write(BODY[at : at + MIB])
        with files.open_input_file("arrow/folder/large") as source:
            assert source.size() == len(BODY)
            source.seek(5)
            assert source.read(4) == BODY[5:9]
        files.copy_file("arrow/folder/large", "arrow/copy")
        found = files.get_file_info(fs.FileSelector("arrow", recursive=True))
        assert {one.path: one.size for one in found if one.is_file} == {
            "arrow/copy": len(BODY),
            "arrow/folder/large": len(BODY),
        }

    await aside(tour)
    await filled(running, "arrow")
    found = await aside(files.get_file_info, fs.FileSelector("arrow/many"))
    assert len(found) == KEYS
    await aside(files.delete_dir, "arrow")


async def test_two_writers_of_a_delta_table_lose_no_commit(running: Running) -> None:
    need_module("deltalake")
    import pyarrow
    from deltalake import DeltaTable, write_deltalake

    options = {
        "AWS_ACCESS_KEY_ID": running.access_key,
        "AWS_SECRET_ACCESS_KEY": running.secret_key,
        "AWS_ENDPOINT_URL": running.address,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "aws_conditional_put": "etag",
    }
    await aside(lambda: running.client().create_bucket(Bucket="delta"))

    def write(writer: int, times: int) -> None:
        for number in range(times):
            table = pyarrow.table({"writer": [writer], "number": [number]})
            write_deltalake("s3://delta/table", table, mode="append", storage_options=options)

    await aside(write, 0, 1)
    await asyncio.gather(aside(write, 1, 8), aside(write, 2, 8))
    rows = await aside(lambda: DeltaTable("s3://delta/table", storage_options=options).to_pyarrow_table().to_pylist())
    assert sorted((one["writer"], one["number"]) for one in rows) == sorted(
        [(0, 0), *((writer, number) for writer in (1, 2) for number in range(8))]
    )


@pytest.mark.peer
async def test_s3fs(running: Running, tmp_path: Path) -> None:
    """Its aiobotocore pins another botocore than boto3 wants, so it has an environment of its own."""
    python = await aside(locked_python, "s3fs", S3FS / "requirements.txt")
    await aside(lambda: running.client().create_bucket(Bucket="filled"))
    await filled(running, "filled")
    words = (str(python), str(S3FS / "tour.py"), running.address, running.access_key, running.secret_key)
    seen = json.loads(await aside(lambda: run(*words, environment=environment(running, tmp_path))))
    assert await aside(run, need_program("curl"), "-sf", seen.pop("url")) == "hello"
    assert seen == {
        "parts": True,
        "etag": seen["etag"],
        "range": "ell",
        "listed": KEYS,
        "folders": ["s3fs/a b", "s3fs/parts"],
        "copied": len(BODY),
        "condition": "PreconditionFailed",
        "kept": len(BODY),
        "versions": ["two", "one"],
        "left": ["s3fs/a b", "s3fs/kept"],
    }
    assert seen["etag"].endswith('-3"')


JAVASCRIPT = r"""
import { execFileSync } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { S3Client, CreateBucketCommand, PutObjectCommand, GetObjectCommand, ListObjectsV2Command, CopyObjectCommand,
  HeadObjectCommand, DeleteObjectsCommand, PutBucketVersioningCommand, ListObjectVersionsCommand,
  paginateListObjectsV2 } from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { createPresignedPost } from '@aws-sdk/s3-presigned-post'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
const [endpoint, accessKeyId, secretAccessKey, path, size] = process.argv.slice(2)
const s3 = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } })
const Bucket = 'javascript'
const seen = {}
await s3.send(new CreateBucketCommand({ Bucket }))
const ContentLength = Number(size)
const streamed = { Bucket, Key: 'streamed', Body: createReadStream(path), ContentLength, ChecksumAlgorithm: 'CRC32C' }
seen.streamed = (await s3.send(new PutObjectCommand(streamed))).ChecksumCRC32C !== undefined
await new Upload({ client: s3, params: { Bucket, Key: 'parts', Body: createReadStream(path) }, partSize: 5 << 20 }).done()
const got = await (await s3.send(new GetObjectCommand({ Bucket, Key: 'parts' }))).Body.transformToByteArray()
seen.bytes = got.length
const range = await s3.send(new GetObjectCommand({ Bucket, Key: 'streamed', Range: 'bytes=65-67' }))
seen.range = await range.Body.transformToString()
seen.parts = (await s3.send(new HeadObjectCommand({ Bucket, Key: 'parts', PartNumber: 1 }))).PartsCount
const again = new PutObjectCommand({ Bucket, Key: 'parts', Body: 'x', IfNoneMatch: '*' })
seen.refused = await s3.send(again).catch((error) => error.name)
await s3.send(new CopyObjectCommand({ Bucket, Key: 'copy', CopySource: `${Bucket}/parts` }))
const form = await createPresignedPost(s3, { Bucket, Key: 'form', Conditions: [['content-length-range', 1, 10]] })
const sent = new FormData()
for (const [name, value] of Object.entries(form.fields)) sent.append(name, value)
sent.append('file', new Blob(['by form']))
seen.posted = (await fetch(form.url, { method: 'POST', body: sent })).status
sent.set('file', new Blob(['too long a file']))
seen.tooLong = (await (await fetch(form.url, { method: 'POST', body: sent })).text()).match(/<Code>(.*)<\/Code>/)[1]
seen.url = await getSignedUrl(s3, new GetObjectCommand({ Bucket, Key: 'form' }))
seen.fetched = execFileSync('curl', ['-sf', seen.url]).toString()
const { Contents } = await s3.send(new ListObjectsV2Command({ Bucket }))
seen.keys = Contents.map(({ Key }) => Key)
const Objects = Contents.map(({ Key }) => ({ Key }))
await s3.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration: { Status: 'Enabled' } }))
await s3.send(new PutObjectCommand({ Bucket, Key: 'copy', Body: 'newer' }))
seen.versions = (await s3.send(new ListObjectVersionsCommand({ Bucket, Prefix: 'copy' }))).Versions.map(({ Size }) => Size)
seen.deleted = (await s3.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }))).Deleted.length
seen.listed = 0
for await (const page of paginateListObjectsV2({ client: s3 }, { Bucket: 'filled' })) seen.listed += page.Contents.length
console.log(JSON.stringify(seen))
"""


@pytest.mark.peer
async def test_aws_sdk_for_javascript(running: Running, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(BODY)
    beside = ("@aws-sdk/s3-presigned-post@3.1164.0", "@aws-sdk/s3-request-presigner@3.1169.0")
    package = await aside(npm_package, "@aws-sdk/lib-storage", SDK_VERSION, *beside)
    await aside(lambda: running.client().create_bucket(Bucket="filled"))
    await filled(running, "filled")
    arguments = (running.address, running.access_key, running.secret_key, str(tmp_path / "large"), str(len(BODY)))
    seen = json.loads(await aside(run_node, JAVASCRIPT, package, *arguments))
    assert "X-Amz-Signature" in seen.pop("url")
    assert seen == {
        "streamed": True,
        "bytes": len(BODY),
        "range": "ABC",
        "parts": 3,
        "refused": "PreconditionFailed",
        "posted": 204,
        "fetched": "by form",
        "tooLong": "EntityTooLarge",
        "keys": ["copy", "form", "parts", "streamed"],
        "versions": [5, len(BODY)],
        "deleted": 4,
        "listed": KEYS,
    }
