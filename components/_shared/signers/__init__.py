"""Signers named by URI; key signers are `securesystemslib.signer.Signer`s, so statements and models share them.

| URI | where the key is |
|---|---|
| `file:/path/key.pem` | a PEM file, encrypted or not |
| `vault:MOUNT/KEY[?version=N]` | transit engine of Vault or OpenBao |
| `vault-hmac:MOUNT/KEY[?version=N]` | the same, a symmetric key: verifiable only where the key is |
| `awskms:KEY`, `gcpkms:KEY VERSION`, `azurekms://VAULT/keys/KEY[/VERSION]` | a cloud's key service |
| `hsm:[ID][?label=TOKEN]` | a PKCS#11 token |
| `sigstore:` | no key: a short-lived certificate for an identity |

Only P-256 with SHA-256 is used for keys: it is what every Sigstore client verifies.
"""
