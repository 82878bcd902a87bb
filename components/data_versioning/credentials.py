"""Credentials of a source: fields of one secret, in memory only.

The URI of `credentials` names a secret that is a JSON object with the fields, such as `file:/etc/custody/sources/s3` or
`vault:secret/fetch#s3`; of a `vault:MOUNT/path` without `#` each field is one of the stored secret.

| for | fields |
|---|---|
| s3 | access_key_id, secret_access_key, session_token (optional) |
| gcs | service_account: the JSON key file as a text |
| azure | account_key, or sas_token |
| git, git-lfs | username, password (or token) |
"""

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.documents import DocumentFault, parse_json
from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.secrets.loading import load_secret


def read_fields(uri: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the fields of a source's credentials.

    Args:
        uri: The URI of the secret.
        required: Fields that must be there.
        optional: Fields that may be; those of a `vault:` URI without `#` cannot be.

    Raises:
        Misconfigured: there is no such secret, or it has not these fields; nothing of it is shown.
        ServiceUnreachable: the server that keeps it did not answer.
    """
    if uri.startswith("vault:") and "#" not in uri:
        return {name: load_secret(f"{uri}#{name}").reveal().decode() for name in required}
    try:
        document = parse_json(load_secret(uri).reveal())
    except DocumentFault:
        document = None
    # Outside the except block, so that the parser's error, which holds the document, is not chained.
    fields = document if isinstance(document, dict) else {}
    given = {name: fields[name] for name in (*required, *optional) if isinstance(fields.get(name), str)}
    if set(required) - set(given):
        raise Misconfigured(
            "The credentials of a source do not have the fields that it needs.",
            evidence=f"{uri}: a JSON object with {', '.join(required)} is needed",
            remedy="Store such an object there.",
            code=codes.STORE_CREDENTIALS,
        )
    return given
