"""From the name of an engine to what it finds at a source. Only the client library that is needed is imported."""

from pathlib import Path

from kfp_custody.components.data_versioning.folder_store import FolderStore
from kfp_custody.components.data_versioning.locations import Location
from kfp_custody.components.data_versioning.objects import Plan, Store
from kfp_custody.components.data_versioning.revisions import Revision
from kfp_custody.components.data_versioning.sources import Source
from kfp_custody.components.data_versioning.stored_tree import plan_stored_tree


def plan_source(location: Location, revision: Revision, source: Source) -> Plan:
    """Find what there is to fetch: names, sizes, digests and the store they are in.

    Raises:
        The refusals of `fetching.fetch`.
    """
    if location.is_git:
        from kfp_custody.components.data_versioning.git import open_commit

        with open_commit(location, revision.git, source) as commit:
            if source.store is None:
                from kfp_custody.components.data_versioning.lfs import plan_lfs

                return plan_lfs(commit, location.inner, source)
            from kfp_custody.components.data_versioning.dvc import plan_dvc

            return plan_dvc(commit, location.inner, open_store(source.store, source), source.encryption)
    if location.scheme == "file":
        root, inner = Path("/", source.prefix.path), location.path.removeprefix(source.prefix.path).strip("/")
        if root.is_file():
            root, inner = root.parent, root.name
        return plan_stored_tree(FolderStore(root), inner)
    return plan_stored_tree(open_store(Location(location.scheme, location.host, ""), source), location.path)


def open_store(place: Location, source: Source) -> Store:
    """Return the store of a place; keys are relative to its path."""
    if place.scheme == "s3":
        from kfp_custody.components.data_versioning.s3_store import S3Store

        return S3Store(place, source)
    if place.scheme == "gs":
        from kfp_custody.components.data_versioning.gcs_store import GcsStore

        return GcsStore(place, source)
    if place.scheme == "abfss":
        from kfp_custody.components.data_versioning.azure_store import AzureStore

        return AzureStore(place, source)
    return FolderStore(Path("/", place.path))
