"""Make buckets in an S3.

    AWS_ENDPOINT_URL=http://seaweedfs.storage:9000 python -m ops buckets mlpipeline slipway

Credentials, region and endpoint come from the usual environment (`AWS_*`). Buckets that are there
already are left as they are.
"""

from __future__ import annotations

import argparse
import os
import re
from functools import partial
from typing import TYPE_CHECKING, Any

from ops.wait import NotYet, wait_for
from slipway.errors import UserError

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_NAME = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
_HERE_ALREADY = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops buckets", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300, help="wait so long for the S3")
    parser.add_argument("buckets", nargs="+", metavar="BUCKET")
    args = parser.parse_args(argv)
    for name in args.buckets:
        if not _NAME.match(name):
            raise UserError(
                f"{name!r} is no name for a bucket.",
                "Use 3 to 63 small letters, digits, dots and hyphens.",
            )
    client = _client()
    probes = {f"s3://{name}": partial(_bucket, client, name) for name in args.buckets}
    return 0 if wait_for(probes, args.seconds, ready="is there") else 1


def _client() -> Any:
    import boto3
    from botocore.config import Config

    return boto3.Session().client(
        "s3",
        region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        config=Config(
            connect_timeout=3,
            read_timeout=30,
            retries={"max_attempts": 0},  # `wait_for` tries again, and says so
            s3={"addressing_style": "path" if "AWS_ENDPOINT_URL" in os.environ else "auto"},
        ),
    )


def _bucket(client: Any, name: str) -> None:
    from botocore.exceptions import (
        ClientError,
        ConnectionError,
        HTTPClientError,
        NoCredentialsError,
    )

    try:
        try:
            client.head_bucket(Bucket=name)
            return
        except ClientError as error:
            if _status(error) != 404:
                raise
        region = client.meta.region_name
        try:
            if region == "us-east-1":  # the one region that must not be named
                client.create_bucket(Bucket=name)
            else:
                place = {"LocationConstraint": region}
                client.create_bucket(Bucket=name, CreateBucketConfiguration=place)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _HERE_ALREADY:
                raise
        else:
            print(f"s3://{name}: made", flush=True)
    except NoCredentialsError:
        raise UserError("No keys for the S3 are given.", "Set AWS_ACCESS_KEY_ID.") from None
    except ClientError as error:
        if _status(error) in (400, 401, 403):
            raise UserError(
                f"s3://{name}: the S3 refuses the keys given ({error}).",
                "Give keys that may see and make this bucket; elsewhere the name may be taken.",
            ) from None
        raise NotYet(str(error)) from None
    except (ConnectionError, HTTPClientError) as error:
        raise NotYet(str(error)) from None


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
