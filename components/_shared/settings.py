"""Everything that differs between a laptop and a cluster, read from the environment in this one place.

None of it is a pipeline parameter on purpose: whoever starts a run must not choose whom the run trusts or who signs.
On a cluster the platform team mounts these; the demo sets the variables to files it makes outside the repository.

| variable | meaning | default |
|---|---|---|
| CUSTODY_SIGNER, CUSTODY_SIGNER_<ROOM> | signer URI of all rooms, of one room (`CUSTODY_SIGNER_POLICY_GATE`) | none |
| CUSTODY_TRUST | trust file | /etc/custody/trust/trust.yaml |
| CUSTODY_MASKING_KEY | key of the pseudonyms, at least 32 bytes in hex | /etc/custody/masking/key |
| CUSTODY_DVC_REMOTE | where attested datasets are pushed (a folder or any DVC URL) | none: not pushed |
| CUSTODY_NAMESPACE | Kubernetes namespace that models are deployed to | default |
| CUSTODY_SERVING_DIR | state of the local model server | ~/.local/state/kfp-custody/serving |
| CUSTODY_SERVING_PORT | its HTTP port | 18080 |
| CUSTODY_IMAGE_DIGEST, CUSTODY_SOURCE_REVISION | recorded in provenance when the image sets them | none |
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kfp_custody.components._shared.errors import Misconfigured


@dataclass(frozen=True)
class Settings:
    """The environment of a stage; see the table above."""

    trust_file: Path
    masking_key: Path
    dvc_remote: str | None
    namespace: str
    serving_dir: Path
    serving_port: int
    image_digest: str | None
    source_revision: str | None
    signers: Mapping[str, str] = field(default_factory=dict)

    def signer_uri(self, room: str) -> str:
        """Return the signer URI of a room: its own, else the one for all.

        Raises:
            Misconfigured: neither is set.
        """
        own, common = f"CUSTODY_SIGNER_{room.upper()}", "CUSTODY_SIGNER"
        uri = self.signers.get(own) or self.signers.get(common)
        if not uri:
            raise Misconfigured(
                "No signer is configured, so this stage could not sign what it finds.",
                evidence=f"neither {own} nor {common} is set",
                remedy=f"Set {common} to a signer URI such as file:/etc/custody/signing/key.pem.",
            )
        return uri


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings.

    Raises:
        Misconfigured: the serving port is no port number.
    """
    port = environ.get("CUSTODY_SERVING_PORT") or "18080"
    if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise Misconfigured(
            "The port of the local model server is no port number.",
            evidence=f"CUSTODY_SERVING_PORT={port!r}",
            remedy="Set it to a number from 1 to 65535, or leave it out for 18080.",
        )
    # expanduser and not Path.home(): a container's user may have no home, and most stages need none.
    state = Path(environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")) / "kfp-custody"
    return Settings(
        trust_file=Path(environ.get("CUSTODY_TRUST") or "/etc/custody/trust/trust.yaml"),
        masking_key=Path(environ.get("CUSTODY_MASKING_KEY") or "/etc/custody/masking/key"),
        dvc_remote=environ.get("CUSTODY_DVC_REMOTE") or None,
        namespace=environ.get("CUSTODY_NAMESPACE") or "default",
        serving_dir=Path(environ.get("CUSTODY_SERVING_DIR") or state / "serving"),
        serving_port=int(port),
        image_digest=environ.get("CUSTODY_IMAGE_DIGEST") or None,
        source_revision=environ.get("CUSTODY_SOURCE_REVISION") or None,
        signers={name: value for name, value in environ.items() if name.startswith("CUSTODY_SIGNER") and value},
    )
