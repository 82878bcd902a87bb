"""The command `kfp-custody`, for auditors and security engineers. It knows every room; no room knows it."""
