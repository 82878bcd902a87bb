"""Uploading a version once, and finding it again."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kfp_custody.components._cli.kfp_api.package import Package, is_package, load_package
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import InputRefused, Misconfigured
from kfp_custody.components._shared.kfp_api import names

if TYPE_CHECKING:
    from kfp_custody.components._cli.kfp_api.client import Kfp
    from kfp_custody.components._shared.kfp_api.client import Version


@dataclass(frozen=True)
class Uploaded:
    """A version on the server; `fresh`: this upload made it."""

    pipeline_id: str
    version_id: str
    fresh: bool


def upload_once(kfp: "Kfp", package: Package, pipeline: str, version: str, description: str) -> Uploaded:
    """Upload a package as a version of a pipeline, which is made when it is not there.

    Raises:
        InputRefused: a name does not fit, or the package is no pipeline by KFP's schema.
        Misconfigured: the version exists with another content.
        ServiceUnreachable: see `Transport.request`.
    """
    from kfp_custody.components._cli.kfp_api.client import require_schema, same_pipeline

    names.require_name("pipeline", pipeline, names.PIPELINE)
    names.require_name("version", version, names.VERSION)
    require_schema(package)
    pipeline_id = kfp.find_pipeline(pipeline) or kfp.create_pipeline(pipeline, description)
    found = kfp.find_version(pipeline_id, pipeline, version)
    if found is None:
        return Uploaded(pipeline_id, kfp.upload_version(pipeline_id, package, version, description), fresh=True)
    if not same_pipeline(package, found):
        raise Misconfigured(
            "The version exists with another content; a version never changes.",
            evidence=f"{pipeline}, version {version}, id {found.version_id}",
            remedy="Choose another --version, or leave it out: it is then named after the bytes.",
            code=codes.VERSION_EXISTS,
        )
    return Uploaded(pipeline_id, found.version_id, fresh=False)


def find_uploaded(kfp: "Kfp", pipeline: str, version: str | None) -> "Version":
    """Return an uploaded version.

    Args:
        kfp: The server.
        pipeline: A shipped pipeline or a YAML file, which is looked up by its name; or the name of one on the server.
        version: Its name; without it the one that holds exactly the bytes of the package.

    Raises:
        Misconfigured: there is no such pipeline or version.
        InputRefused: it was not compiled by kfp 2.
        ServiceUnreachable: see `Transport.request`.
    """
    from kfp_custody.components._shared.kfp_api.client import require_version

    package = load_package(pipeline) if is_package(pipeline) or version is None else None
    name, wanted = package.name if package else pipeline, version or (package.version if package else "")
    remedy = f"kfp-custody upload {pipeline if package else 'FILE.yaml'}, or name a version that is there."
    found = require_version(kfp, name, wanted, remedy)
    if not isinstance(found.spec.get("pipelineInfo"), dict):
        raise InputRefused(
            "The version on the server holds no pipeline of kfp 2.",
            evidence=f"{name}, version {wanted}, id {found.version_id}",
            remedy="Compile the pipeline with kfp 2 and upload it as another version.",
            code=codes.PIPELINE_FILE,
        )
    return found
