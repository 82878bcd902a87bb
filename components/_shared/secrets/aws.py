"""Secrets in AWS Secrets Manager: `aws-secretsmanager:NAME[#field]`, through boto3 and its own way to credentials.

Region, credentials and endpoint come from where every AWS client takes them (AWS_REGION, web identity of the service
account, AWS_ENDPOINT_URL). A text is given as UTF-8, a binary secret as it is.
"""

import logging
from typing import Any

from kfp_custody.components._shared.errors import CustodyError, Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.secrets.fields import of_json, split_field
from kfp_custody.components._shared.secrets.secret import Reading, Source

# What the service says when its caller, and not the service, has to change something.
_CALLER = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "DecryptionFailure",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidParameterException",
        "InvalidRequestException",
        "InvalidSignatureException",
        "ResourceNotFoundException",
        "UnrecognizedClientException",
        "ValidationException",
    }
)


def source(rest: str, lifetime: float) -> Source:
    """Return what reads the current version of the secret."""
    name, field = split_field(rest)
    where = f"aws-secretsmanager:{rest}"
    if not name:
        raise Misconfigured("The URI names no secret.", evidence=where, remedy="Use aws-secretsmanager:NAME#field.")

    def read() -> Reading:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

        # At DEBUG, botocore logs whole answers.
        logging.getLogger("botocore").setLevel(max(logging.INFO, logging.getLogger("botocore").level))
        limits = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"})
        try:
            # A session of its own: the default one would keep the credentials that it saw first.
            client = boto3.Session().client("secretsmanager", config=limits)
            answer = client.get_secret_value(SecretId=name)
        except ClientError as error:
            raise _refusal(where, str(error.response.get("Error", {}).get("Code", "no code"))) from error
        except (ConnectionError, HTTPClientError) as error:
            raise ServiceUnreachable(
                "AWS Secrets Manager did not answer.",
                evidence=f"{where}: {type(error).__name__}",
                remedy="Check AWS_REGION, AWS_ENDPOINT_URL and the network of this task.",
            ) from error
        except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no address
            raise Misconfigured(
                "AWS Secrets Manager cannot be asked with these settings.",
                evidence=f"{where}: {type(error).__name__}",
                remedy="Give the task a region and credentials: its service account's role, or AWS_ variables.",
            ) from None  # the cause may quote what it could not use
        return Reading(of_json(_value(answer), field, where), lifetime)

    return read


def _value(answer: dict[str, Any]) -> bytes:
    text = answer.get("SecretString")
    return text.encode() if isinstance(text, str) else bytes(answer.get("SecretBinary", b""))


def _refusal(where: str, code: str) -> CustodyError:
    if code in _CALLER:
        return Misconfigured(
            "AWS Secrets Manager does not give this secret to this task.",
            evidence=f"{where}: {code}",
            remedy="Check the name, the region, that it is not being deleted, and the role's permissions"
            " (secretsmanager:GetSecretValue, kms:Decrypt).",
        )
    return ServiceUnreachable(
        "AWS Secrets Manager answered with an error.", evidence=f"{where}: {code}", remedy="Try again later."
    )
