"""Pushing a dataset to a DVC remote, so that the attested bytes can be had again with `dvc pull`."""

import re
import tempfile
from pathlib import Path

from kfp_custody.components._shared.errors import EvidenceInvalid, Misconfigured, ServiceUnreachable


def push(root: Path, remote: str, expected_md5: str) -> int:
    """Push a file or directory to a DVC remote.

    Args:
        root: The dataset.
        remote: A folder or any URL that DVC knows (s3://, gs://, azure://, ssh://...). Credentials come from the
            environment, the way DVC finds them; never from this URL.
        expected_md5: The identity that our own computation gave; DVC must come to the same.

    Returns:
        How many objects the remote did not have before.

    Raises:
        EvidenceInvalid: DVC read other bytes than were attested.
        Misconfigured: no such kind of remote, or DVC's extension for it is not installed.
        ServiceUnreachable: the remote did not take them all.
    """
    from dvc.config import Config, ConfigError
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.transfer import transfer
    from dvc_objects.errors import ObjectDBError, ObjectFormatError
    from dvc_objects.fs.errors import RemoteMissingDepsError
    from dvc_objects.fs.local import LocalFileSystem

    shown = re.sub(r"//[^/@]*@", "//***@", remote)  # a URL may hold a password all the same
    with tempfile.TemporaryDirectory(prefix="custody-dvc-") as scratch:
        try:
            # Before there is a Repo, whose own init would make the site's cache where a container may not write.
            (Path(scratch) / ".dvc").mkdir()
            with Config.init(f"{scratch}/.dvc").edit("local") as config:
                config["remote"]["custody"] = {"url": remote}
                config["core"]["no_scm"] = True
                config["core"]["site_cache_dir"] = f"{scratch}/site"  # not /var/tmp, which outlives the task
            with Repo(scratch) as repo:
                staging, _, built = build(repo.cache.local, str(root), LocalFileSystem(), "md5")
                if built.hash_info.value != expected_md5:
                    raise EvidenceInvalid(
                        "The dataset changed while it was being attested.",
                        evidence=f"dataset expected md5:{expected_md5}, DVC read md5:{built.hash_info.value}",
                        remedy="Find out what writes to it; run the stage again.",
                    )
                done = transfer(staging, repo.cloud.get_remote_odb("custody"), {built.hash_info}, shallow=False)
        except (ConfigError, ImportError) as error:
            raise Misconfigured(
                "The DVC remote is of a kind that cannot be used here.",
                evidence=f"{shown}: {type(error).__name__}",
                remedy="Correct CUSTODY_DVC_REMOTE, or install DVC's extension for it (dvc-s3, dvc-gs, ...).",
            ) from error
        except (DvcException, ObjectDBError, ObjectFormatError, RemoteMissingDepsError, OSError) as error:
            raise ServiceUnreachable(
                "The DVC remote did not take the dataset.",
                evidence=f"{shown}: {type(error).__name__}",
                remedy="Check CUSTODY_DVC_REMOTE, the network and the credentials.",
            ) from error
    if done.failed:
        raise ServiceUnreachable(
            "The DVC remote did not take the whole dataset.",
            evidence=f"{shown}: {len(done.failed)} objects failed",
            remedy="Check its free space and permissions, then run the stage again.",
        )
    return len(done.transferred)
