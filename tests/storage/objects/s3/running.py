"""A running S3 door, and how the tests speak to it: by boto3, and by raw requests that they sign themselves."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import boto3
import botocore.config
import msgspec

from mainspring.core.application import Mainspring

T = TypeVar("T")


class Running(msgspec.Struct):
    """`address` is the endpoint's URL without a slash."""

    mainspring: Mainspring
    address: str
    access_key: str
    secret_key: str

    @property
    def host(self) -> str:
        return urlsplit(self.address).netloc

    def client(self, access_key: str = "", secret_key: str = "", **options: Any) -> Any:
        """boto3's client, with its defaults but for time: nothing is tried twice, so that an error is seen."""
        config = botocore.config.Config(
            retries={"max_attempts": 1, "mode": "standard"},
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=30,
            read_timeout=60,
            **options.pop("config", {}),
        )
        return boto3.client(
            "s3",
            endpoint_url=self.address,
            region_name="us-east-1",
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            config=config,
            **options,
        )


async def aside(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """Runs a client that blocks, while the server goes on in the loop."""
    return await asyncio.to_thread(function, *args, **kwargs)


def code_of(error: Any) -> str:
    """The code of a boto3 `ClientError`."""
    code: str = error.response["Error"]["Code"]
    return code
