"""The tour by s3fs, in an environment of its own: its aiobotocore pins an older botocore than boto3 wants.

    python tour.py ENDPOINT ACCESS_KEY SECRET_KEY        prints what was seen as JSON

The bucket `filled` is there, with many keys below `many/`.
"""

import json
import sys

import s3fs

MIB = 1 << 20
BODY = bytes(range(256)) * (11 * MIB // 256)


def main(endpoint: str, access_key: str, secret_key: str) -> dict[str, object]:
    options = {"endpoint_url": endpoint, "key": access_key, "secret": secret_key}
    options["config_kwargs"] = {"signature_version": "s3v4", "retries": {"max_attempts": 1}}
    files = s3fs.S3FileSystem(**options)
    seen: dict[str, object] = {}
    files.mkdir("s3fs")
    files.pipe_file("s3fs/a b/ü", b"hello")
    with files.open("s3fs/parts", "wb", block_size=5 * MIB) as target:
        for at in range(0, len(BODY), MIB):
            target.write(BODY[at : at + MIB])
    seen["parts"] = files.cat_file("s3fs/parts") == BODY
    seen["etag"] = files.info("s3fs/parts")["ETag"]
    seen["range"] = files.cat_file("s3fs/a b/ü", start=1, end=4).decode()
    seen["listed"] = len(files.ls("filled/many"))
    seen["folders"] = files.ls("s3fs")
    files.copy("s3fs/parts", "s3fs/copy")
    seen["copied"] = files.checksum("s3fs/copy") != 0 and files.size("s3fs/copy")
    try:
        files.pipe_file("s3fs/copy", b"other", mode="create")
    except OSError as error:
        seen["condition"] = error.__cause__.response["Error"]["Code"]
    seen["kept"] = files.size("s3fs/copy")
    versioned = s3fs.S3FileSystem(version_aware=True, **options)
    versioned.call_s3("put_bucket_versioning", Bucket="s3fs", VersioningConfiguration={"Status": "Enabled"})
    for body in (b"one", b"two"):
        versioned.pipe_file("s3fs/kept", body)
    versions = versioned.object_version_info("s3fs/kept")
    seen["versions"] = [versioned.cat_file(f"s3fs/kept?versionId={one['VersionId']}").decode() for one in versions]
    seen["url"] = files.sign("s3fs/a b/ü", expiration=600)
    files.rm(["s3fs/copy", "s3fs/parts"])
    files.invalidate_cache()
    seen["left"] = files.ls("s3fs")
    return seen


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
