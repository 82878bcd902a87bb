"""What each level of encryption lets pass, against every way S3 says that it encrypted an object.

moto answers with the headers of S3 and encrypts nothing: this is about reading the headers. SeaweedFS, which encrypts,
is in test_fetch_from_stores.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from fetched_sources import Fetcher, secret_file
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.settings import Settings

pytestmark = pytest.mark.services
OURS = "arn:aws:kms:eu-central-1:111122223333:key/0f9c3a52-7d5e-4a52-8f7e-6f1a2b3c4d5e"
OTHERS = "arn:aws:kms:eu-central-1:999999999999:key/0f9c3a52-7d5e-4a52-8f7e-6f1a2b3c4d5e"
WAYS: dict[str, dict[str, str]] = {
    "none": {},
    "sse": {"ServerSideEncryption": "AES256"},
    "kms": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": OURS},
    "dsse": {"ServerSideEncryption": "aws:kms:dsse", "SSEKMSKeyId": OURS},
    "others": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": OTHERS},
    "alias": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/ours"},
}
PATTERN = "arn:aws:kms:*:111122223333:key/*"
DEMANDS: list[tuple[dict[str, str], set[str]]] = [
    ({"level": "any"}, set(WAYS)),
    ({"level": "sse"}, set(WAYS) - {"none"}),
    # S3 names the key of a dual-layer encryption; moto does not, and a key that is not named is none that was demanded.
    ({"level": "cmk", "key": OURS}, {"kms"}),
    ({"level": "cmk", "key": PATTERN}, {"kms"}),
    ({"level": "cmk", "key": "alias/ours"}, {"alias"}),
    ({"level": "cmk", "key": OURS.replace("0f9c", "0000")}, set()),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    made = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    for bucket in ("plain", "ruled"):
        made.create_bucket(Bucket=bucket)
        for way, headers in WAYS.items():
            made.put_object(Bucket=bucket, Key=f"{way}/a.csv", Body=b"a\n1\n", **headers)
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": OURS}}
    made.put_bucket_encryption(Bucket="ruled", ServerSideEncryptionConfiguration={"Rules": [rule]})
    yield made
    server.stop()


@pytest.mark.parametrize(("bucket", "number"), [*(("plain", number) for number in range(len(DEMANDS))), ("ruled", 2)])
@pytest.mark.parametrize("way", WAYS)
def test_the_object_decides_and_not_the_rule_of_the_bucket(
    client: Any, tmp_path: Path, settings: Settings, way: str, number: int, bucket: str
) -> None:
    demanded, accepted = DEMANDS[number]
    secret = json.dumps({"access_key_id": "test", "secret_access_key": "test"})
    fetcher = Fetcher(tmp_path, settings)
    entry = {"prefix": f"s3://{bucket}/", "engine": "s3", "endpoint": client.meta.endpoint_url, "encryption": demanded}
    fetcher.allow({**entry, "credentials": secret_file(tmp_path / "secret", secret)})
    if way in accepted:
        fetcher(f"s3://{bucket}/{way}")
        record = json.loads((fetcher.evidence / "fetch-manifest.json").read_bytes())
        assert record["files"][0]["storage"].get("encryption") == WAYS[way].get("ServerSideEncryption")
        assert (record["bucket_encryption"] or "").partition(" ")[2] == (OURS if bucket == "ruled" else "")
    else:
        with pytest.raises(CustodyError) as caught:
            fetcher(f"s3://{bucket}/{way}")
        assert caught.value.code == codes.NOT_ENCRYPTED
        assert fetcher.left() == []
