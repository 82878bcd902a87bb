"""Zips that libraries write for a model: which members one may have, and what each must be."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from kfp_custody.components.model_scanning.allowing import Allowed
from kfp_custody.components.model_scanning.configurations import skops_files
from kfp_custody.components.model_scanning.reading import Blocked, Member, Reading

_SCHEMA = "schema.json"
_TORCH_TEXTS = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
_TORCH_STORAGE = re.compile(r"data/\d{1,9}")


def package_members(members: Iterable[Member], allowed: Allowed) -> Reading:
    """Return a zip's members with the format that each must have; what kind of package it is, its names say.

    Raises:
        Blocked: the zip cannot be read, or has a member that its kind of package does not.
    """
    found = {member.name: member for member in members}
    if _SCHEMA in found:
        return Reading("skops", members=_skops(found, allowed))
    roots = [name.removesuffix("data.pkl") for name in found if re.fullmatch(r"([\w.\-]+/)?data\.pkl", name)]
    if roots:
        return Reading("torch", members=_torch(found, roots))
    if "config.json" in found and "metadata.json" in found:
        return Reading("keras", members=_keras(found))
    if found and all(name.endswith(".npy") for name in found):
        return Reading("npz", members=(replace(each, format="npy") for each in found.values()))
    if not found:
        raise Blocked("it holds no file")
    return Reading("zip", members=found.values())


def _skops(found: dict[str, Member], allowed: Allowed) -> Iterator[Member]:
    formats = skops_files(found[_SCHEMA].take(), allowed)
    if set(formats) | {_SCHEMA} != set(found):
        raise Blocked("its files are not those that its schema refers to")
    for name, member in found.items():
        yield replace(member, format=formats.get(name, "skops-schema"))


def _torch(found: dict[str, Member], roots: list[str]) -> Iterator[Member]:
    if len(roots) > 1:
        raise Blocked("it has two pickles that torch could load")
    for name, member in found.items():
        inner = name.removeprefix(roots[0])
        if not name.startswith(roots[0]):
            raise Blocked(f"{name} belongs to no part of a torch model")
        if inner == "data.pkl":
            yield replace(member, format="torch-pickle")
        elif inner in _TORCH_TEXTS:
            yield replace(member, format="text")
        elif _TORCH_STORAGE.fullmatch(inner):
            yield replace(member, format="bytes")
        else:
            raise Blocked(f"{name} belongs to no part of a torch model that is only weights")


def _keras(found: dict[str, Member]) -> Iterator[Member]:
    for name, member in found.items():
        yield replace(member, format={"config.json": "json", "metadata.json": "keras-notes"}.get(name, ""))
