"""Collecting logs: every line of a window from wherever the platform keeps them, and what was left out, signed."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import Listing, list_tree, sha256_bytes
from kfp_custody.components._shared.documents import canonical_json
from kfp_custody.components._shared.errors import InputRefused
from kfp_custody.components._shared.evidence import COLLECTION, now, provenance, resource, write_evidence
from kfp_custody.components._shared.files import atomic_directory
from kfp_custody.components._shared.request_logs import (
    LOG_NAME,
    LineFault,
    line_time,
    open_lines,
    parse_line,
    read_lines,
)
from kfp_custody.components._shared.settings import Settings
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components.data_versioning.locations import parse_location
from kfp_custody.components.data_versioning.log_source import plan_logs
from kfp_custody.components.data_versioning.receiving import Received, receive
from kfp_custody.components.data_versioning.sources import load_sources
from kfp_custody.components.data_versioning.window import Window, parse_window

MANIFEST_NAME = "collect-manifest.json"


@dataclass
class Lines:
    """How many lines of a file are of the window, of another time, or unreadable.

    What cannot be read has no time of its own: it counts for the window when the line before it does, or when there is
    none. The last line of a file that is still being written may lack its end: then it is `unfinished`, no fault.
    """

    kept: int = 0
    left: int = 0
    unreadable: int = 0
    unfinished: int = 0


@dataclass(frozen=True)
class CollectedLogs:
    """What was collected: the listing of the logs, from how many files, and their lines."""

    listing: Listing
    files: int
    lines: Lines

    def metadata(self) -> dict[str, str | float]:
        """Return what the KFP UI shows."""
        counts = {f"lines_{name}": float(count) for name, count in asdict(self.lines).items()}
        return {"sha256": self.listing.sha256, "files": float(self.files), **counts}


def collect(
    uri: str, start: str, end: str, logs: Path, evidence: Path, run_id: str, settings: Settings
) -> CollectedLogs:
    """Collect the lines of a window, and sign what was kept, left and unreadable.

    Args:
        uri: A folder, or a prefix of an object store.
        start: Of the window, RFC 3339 in UTC.
        end: Of the window, RFC 3339 in UTC; not in it.
        logs: The directory to write, with one file.
        evidence: The evidence directory to write.
        run_id: The pipeline run.
        settings: Sources file and signer.

    Raises:
        InputRefused: the window or the URI cannot be used, or there is more than the platform lets be fetched.
        The other refusals of `fetching.fetch`.
    """
    started = now()
    signer = load_signer(settings.signer_uri("data_versioning"))
    window, location = parse_window(start, end), parse_location(uri)
    sources = load_sources(settings.sources_file)
    source = sources.allow(location)
    plan = plan_logs(location, source)
    logs.parent.mkdir(parents=True, exist_ok=True)
    with atomic_directory(logs) as partial:
        with _receiving(logs.parent) as raw:
            received = receive(plan, raw, source.encryption, source.max_bytes)
            plan.still()
            counts = _keep(raw, received, window, partial / LOG_NAME, source.max_bytes)
        listing = list_tree(partial)
        record = canonical_json({"version": 1, "files": counts}) + b"\n"
        lines = Lines(*(sum(count[name] for count in counts) for name in asdict(Lines())))
        done = CollectedLogs(listing, len(received), lines)
        statement = provenance(
            COLLECTION,
            listing,
            run_id=run_id,
            started=started,
            parameters={"uri": uri, "start": start, "end": end},
            internal={"engine": source.engine, "store": plan.store.name, "encryption": source.encryption.level},
            dependencies=[
                resource("source", uri=location.uri, annotations={"engine": source.engine}),
                resource("sources", sources.sha256, media_type="application/yaml"),
            ],
            byproducts=[
                resource("collect-manifest", sha256_bytes(record), media_type="application/json"),
                resource("metrics", annotations=done.metadata() | {"bytes": listing.size}),
            ],
        )
        write_evidence(evidence, statement, signer, listing, attachments={MANIFEST_NAME: record})
    return done


@contextmanager
def _receiving(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=".logs-", suffix=".partial", dir=folder) as place:
        yield Path(place)


def _keep(raw: Path, received: list[Received], window: Window, target: Path, most: int) -> list[dict[str, Any]]:
    """Write the window's lines to one file; return what each file had, in the order of their names."""
    counts, size = [], 0
    with open(target, "xb") as kept:
        for file in received:
            lines = Lines()
            with open(raw / file.entry.name, "rb") as compressed:
                for line in _of_window(open_lines(compressed), window, lines):
                    size += len(line)
                    if size > most:
                        raise _too_much(most)
                    kept.write(line)
            os.unlink(raw / file.entry.name)  # so that both together need little more room than one
            entry = {"path": file.entry.name, "size": file.entry.size, "sha256": file.entry.sha256}
            counts.append(entry | asdict(lines))
    return counts


def _of_window(file: IO[bytes], window: Window, lines: Lines) -> Iterator[bytes]:
    inside = True
    for line in read_lines(file):
        try:
            if line is None:
                raise LineFault("it is too long, or the file breaks off")
            inside = window.holds(line_time(parse_line(line)))
        except LineFault:
            whole = line is None or line.endswith(b"\n")
            lines.unfinished += not whole
            lines.unreadable += whole and inside
            lines.left += whole and not inside
            continue
        lines.kept += inside
        lines.left += not inside
        if inside:
            yield line if line.endswith(b"\n") else line + b"\n"


def _too_much(most: int) -> InputRefused:
    return InputRefused(
        "The window has more bytes of logs than the platform lets be fetched.",
        evidence=f"more than max_bytes {most} when they are unpacked",
        remedy="Collect a shorter window, or have the platform's team raise max_bytes of this source.",
        code=codes.SOURCE_SIZE,
    )
