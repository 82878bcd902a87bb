"""Secrets in Azure Key Vault: `azure-keyvault:VAULT/NAME[#field]`, with the identity that Azure gives to the task.

VAULT is the vault's name, or its whole host for a cloud other than the public one (`v.vault.azure.cn`).
"""

import re

from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.components._shared.secrets.fields import of_json, split_field
from kfp_custody.components._shared.secrets.secret import Reading, Source

_VAULT = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]+)?")
_NAME = re.compile(r"[A-Za-z0-9-]{1,127}")


def source(rest: str, lifetime: float) -> Source:
    """Return what reads the current version of the secret."""
    path, field = split_field(rest)
    vault, _, name = path.partition("/")
    where = f"azure-keyvault:{rest}"
    if not _VAULT.fullmatch(vault) or not _NAME.fullmatch(name):
        raise Misconfigured("The URI names no secret.", evidence=where, remedy="Use azure-keyvault:VAULT/NAME#field.")
    host = vault if "." in vault else f"{vault}.vault.azure.net"

    def read() -> Reading:
        from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
        from azure.identity import CredentialUnavailableError, DefaultAzureCredential
        from azure.keyvault.secrets import SecretClient

        try:
            with (
                DefaultAzureCredential(process_timeout=5) as identity,
                SecretClient(
                    f"https://{host}", identity, connection_timeout=3, read_timeout=5, retry_total=1
                ) as client,
            ):
                value = client.get_secret(name).value or ""
        except (CredentialUnavailableError, ClientAuthenticationError) as error:
            raise _denied(where, type(error).__name__) from None  # the cause quotes what the identity endpoint said
        except HttpResponseError as error:
            if error.status_code in (400, 401, 403, 404):
                raise _denied(where, f"HTTP {error.status_code}") from error
            raise _unreachable(where, f"HTTP {error.status_code}") from error
        except (AzureError, ValueError) as error:  # ValueError: the server asks for a token for somebody else
            raise _unreachable(where, type(error).__name__) from error
        return Reading(of_json(value.encode(), field, where), lifetime)

    return read


def _denied(where: str, why: str) -> Misconfigured:
    return Misconfigured(
        "Azure Key Vault does not give this secret to this task.",
        evidence=f"{where}: {why}",
        remedy="Check the names, the task's workload identity, and that it may get secrets of this vault.",
    )


def _unreachable(where: str, why: str) -> ServiceUnreachable:
    return ServiceUnreachable(
        "Azure Key Vault did not answer, or answered with an error.",
        evidence=f"{where}: {why}",
        remedy="Check the vault's name and the network of this task.",
    )
