"""From a URI to a secret. Only the module of the URI's scheme is imported, and its client library with it.

| URI | what | read again |
|---|---|---|
| `file:/path` | the bytes of a file that others cannot read | at every use |
| `env:NAME` | an environment variable | at every use |
| `vault:MOUNT/path#field` | Vault or OpenBao, KV version 2 or 1 | after the lifetime |
| `vault:MOUNT/path#field`, a mount that issues credentials | the same; the lease is renewed | before the lease ends |
| `vault:MOUNT/path?wrapped=URI#field` | the same, out of a response-wrapping token | when there is a new token |
| `aws-secretsmanager:NAME[#field]` | AWS Secrets Manager; a name or an ARN | after the lifetime |
| `azure-keyvault:VAULT/NAME[#field]` | Azure Key Vault; a vault's name or its host | after the lifetime |
| `gcp-secretmanager:projects/P/secrets/S[/versions/V][#field]` | Google Secret Manager | after the lifetime |

`#field` picks one string of a secret that is a JSON object. A value is given as it is stored: a newline at the end of a
file is part of it.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from kfp_custody.components._shared.errors import Misconfigured
from kfp_custody.components._shared.secrets.secret import Reading, Secret, Source

LIFETIME = 300.0  # seconds that a server's value is used: a rotation is seen within them
# Scheme -> module here; a module that needs a client library is called like the extra that installs it.
_SCHEMES = {
    "file": "file",
    "env": "env",
    "vault": "vault",
    "aws-secretsmanager": "aws",
    "azure-keyvault": "azure",
    "gcp-secretmanager": "gcp",
}


def load_secret(uri: str, lifetime: float = LIFETIME) -> Secret:
    """Return the secret that a URI names; its value is read when it is needed first.

    Args:
        uri: See the table above.
        lifetime: Seconds after which the value of a server is read again.

    Raises:
        Misconfigured: the URI is not understood.
    """
    scheme, _, rest = uri.partition(":")
    module = _SCHEMES.get(scheme)
    if module is None or not rest:
        # Of an unknown text nothing is shown: it may be a secret that was pasted by mistake.
        raise Misconfigured(
            "The URI of a secret is not understood.",
            evidence=f"{'nothing after the scheme ' + scheme if module else 'no known scheme'};"
            f" known: {', '.join(_SCHEMES)}",
            remedy="Name where the secret is kept, such as file:/etc/custody/masking/key.",
        )
    make: Callable[[str, float], Source] = import_module(f"{__package__}.{module}").source
    return Secret(uri, _with_library(make(rest, lifetime), module))


def load_secret_or_file(value: str, lifetime: float = LIFETIME) -> Secret:
    """Return the secret of a URI, or of a file's plain path (`/path`, `./path`).

    Raises:
        Misconfigured: it is neither; such a value is not shown, for it may be the secret itself.
    """
    return load_secret(f"file:{Path(value).absolute()}" if value.startswith(("/", "./", "../")) else value, lifetime)


def _with_library(source: Source, extra: str) -> Source:
    """Say which extra to install when a client library is missing."""

    def read() -> Reading:
        try:
            return source()
        except ModuleNotFoundError as error:
            raise Misconfigured(
                "The client library of a secret store is not installed.",
                evidence=f"no module {error.name!r}",
                remedy=f"Install it: pip install 'kfp-custody[{extra}]'.",
            ) from error

    return read
