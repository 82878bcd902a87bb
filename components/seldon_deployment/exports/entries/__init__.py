"""What the other servers run: each file is copied into an export as it is, and imports its work from this package."""
