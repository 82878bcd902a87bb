"""What container engines and builders say, and which refusal a person reads. The real ones are in tests/containers."""

import pytest

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured, ServiceUnreachable
from kfp_custody.pipelines.containers import engine_refusal

SAID = (
    (
        codes.ENGINE_PERMISSION,
        "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock",
    ),
    (codes.ENGINE_PERMISSION, "('Connection aborted.', PermissionError(13, 'Permission denied'))"),
    (codes.ENGINE_SILENT, "Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?"),
    (codes.ENGINE_SILENT, "('Connection aborted.', FileNotFoundError(2, 'No such file or directory'))"),
    (codes.DISK_FULL, "write /var/lib/docker/tmp/x: no space left on device"),
    (codes.IMAGE_ARCHITECTURE, "exec /bin/sh: exec format error"),
    (
        codes.IMAGE_MISSING,
        'Head "http://localhost/v2/x/manifests/1": dial tcp 127.0.0.1:80: connect: connection refused',
    ),
    (codes.IMAGE_MISSING, "pull access denied for localhost/x, repository does not exist"),
    (codes.IMAGE_MISSING, '404 Client Error: Not Found ("No such image: localhost/x:1")'),
    (codes.CONTAINER_GONE, '404 Client Error: Not Found ("No such container: 4cc0")'),
    (codes.ENGINE_SILENT, "error during connect: lookup engine.example.org: connect: connection timed out"),
    (codes.ENGINE, "something that no engine has said so far"),
)


@pytest.mark.parametrize(("code", "said"), SAID)
def test_what_was_said_becomes_a_refusal_with_a_remedy(code: str, said: str) -> None:
    refusal = engine_refusal(f"#5 building\n{said}\n", "localhost/x:1")
    assert refusal.code == code
    assert isinstance(refusal, ServiceUnreachable if code == codes.ENGINE_SILENT else Misconfigured)
    assert refusal.evidence == f"localhost/x:1: {said}"
    assert refusal.remedy
