"""Mutate evidence, listings, trust files and policies by the hundred thousand: nothing forged may get through.

    python tests/fuzz/fuzz_evidence.py [--inputs 120000] [--seed 1] [--workers 2]      (make fuzz)

Every input starts from genuine evidence and is changed at the level of bytes or of structure. It must either be refused
by an error of the project's own tree, or be what it was before: what is accepted under a signature that was not made
again has, byte for byte, the payload that was signed; what was signed again by a trusted key is a statement that the
published schema allows. Any other exception is a finding. An input is known by its seed and number:
`--seed S --only N` runs that one alone, with its traceback.
"""

import argparse
import base64
import copy
import datetime
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from forging import sign_payload
from genuine_chain import RUN, parquet, trust_entry, write_masking, write_tree
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.digests import list_tree, sha256_bytes
from kfp_custody.components._shared.documents import DocumentFault, parse_yaml
from kfp_custody.components._shared.errors import CustodyError
from kfp_custody.components._shared.evidence import (
    DECISION,
    MASKING,
    TRAINING,
    now,
    provenance,
    resource,
    verification_summary,
    write_evidence,
)
from kfp_custody.components._shared.kinds import MODEL_SIGNATURE, Kind
from kfp_custody.components._shared.model_signature import read_model_signature, sign_model_tree
from kfp_custody.components._shared.signers.file import generate_key
from kfp_custody.components._shared.signers.loading import load_signer
from kfp_custody.components._shared.trust import load_trust
from kfp_custody.components._shared.verification import Verified, read_evidence
from kfp_custody.components.policy_gate.policy import load_policy

SCHEMAS = {
    MASKING: "test-result",
    TRAINING: "provenance",
    DECISION: "verification-summary",
    MODEL_SIGNATURE: "model-signature",
}
# What a statement is refused for that a schema can say as well, but for names given twice and whole numbers too large.
SHAPE = {codes.FIELDS, codes.STATEMENT, codes.SUBJECT, codes.RESULT, codes.RESOURCE, codes.VALUE}
SHAPE |= {codes.MODEL_SCOPE, codes.MODEL_FILES}
BEYOND = ("twice", "no object of numbers")
TOKENS = [
    *(b"", b"{}", b"[]", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"0", b"-1", b'"', b"\\", b"\\u0000"),
    *(b"\\ud800", b"\xff", b"\x00", b"\n", b"\r\n", b" ", b",", b":", b"..", b"../", b"/", b"==", b"{" * 70, b"[" * 70),
    *(b"&a", b"*a", b"<<: ", b"!!python/name:os.system ", b"!!binary ", b"? ", b"- ", b"---\n", b"%YAML 9.9\n", b"\t"),
    *(b"9" * 5000, b"PASSED", b"FAILED", RUN.encode(), b"sha256", b"sha512", b"\xef\xbb\xbf", b"\xe2\x80\xa8"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**53 + 1, 10**400, 0.5, 1e308, "", " ", "x", "PASSED", "FAILED", RUN, "\x00"),
    *([], {}, [[]], [{}], {"": ""}, {"name": "x"}, ["x"], "ab" * 32, "AB" * 32, "2020-01-01T00:00:00Z", "2999-01-01"),
    *("https://in-toto.io/Statement/v0.1", "application/json", "../../etc/passwd", "é\u0301", [None], {"a": [{}]}),
]
NAMES = [
    "",
    "x",
    "note",
    "_type",
    "digest",
    "sha256",
    "md5",
    "uri",
    "name",
    "result",
    "signatures",
    "sig",
    "hint",
    "key",
]
NAMES += ["certificate", "publicKey", "hmac", "issuer", "identity", "revoked", "annotations", "byproducts", "version"]


@dataclass
class Finding:
    """What went wrong with one input."""

    number: int
    target: str
    why: str
    trace: str = ""


@dataclass
class Count:
    """How many inputs there were by target, and how they ended (by code, or accepted)."""

    inputs: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: "Count") -> None:
        """Take over another count."""
        self.inputs += other.inputs
        self.ended += other.ended
        self.findings += other.findings


class Unsound(AssertionError):
    """An input was accepted that must not be, or schema and reader disagree."""


# --- mutating --------------------------------------------------------------------------------------------------------


def change_bytes(data: bytes, dice: random.Random) -> bytes:
    """Return bytes with one to three small changes."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        at = dice.randrange(len(changed) + 1)
        end = min(len(changed), at + dice.choice((1, 1, 2, 4, 16, 100)))
        match dice.randrange(7):
            case 0 if changed:
                changed[min(at, len(changed) - 1)] ^= 1 << dice.randrange(8)
            case 1:
                del changed[at:end]
            case 2:
                changed[at:at] = changed[at:end]
            case 3:
                changed[at:at] = dice.choice(TOKENS)
            case 4:
                changed[at:end] = dice.choice(TOKENS)
            case 5:
                del changed[at:]
            case _:
                start = dice.randrange(len(changed) + 1)
                changed[at:end] = changed[start : start + 32]
    return bytes(changed)


def places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return every (container, key or index) of a document."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        places(value[key], found)
    return found


def change_structure(document: Any, dice: random.Random) -> Any:
    """Return a document with one to three changed, added, moved, repeated or removed parts."""
    document = copy.deepcopy(document)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        found = places(document, [])
        if not found:
            return document
        container, key = dice.choice(found)
        other, other_key = dice.choice(found)
        match dice.randrange(9):
            case 0:
                del container[key]
            case 1:
                container[key] = copy.deepcopy(dice.choice(VALUES))
            case 2 if isinstance(container, dict):
                container[dice.choice(NAMES)] = container.pop(key)
            case 3 if isinstance(container, dict):
                container[dice.choice(NAMES)] = copy.deepcopy(dice.choice(VALUES))
            case 4 if isinstance(container, list):
                container.insert(key, copy.deepcopy(container[key]))
            case 5:
                container[key] = [container[key]]
            case 6 if isinstance(container[key], str):
                text = container[key]
                container[key] = dice.choice(
                    (text.upper(), text + "\n", text[:-1], text + text, " " + text, text[::-1])
                )
            case 7:
                container[key] = copy.deepcopy(other[other_key])
            case _:
                container[key] = {dice.choice(NAMES): container[key]}
    return document


def repeat_a_name(text: str, dice: random.Random) -> str:
    """Return JSON text in which an object names something twice."""
    at = [index for index, letter in enumerate(text) if letter == "{"]
    start = dice.choice(at) + 1
    name, _, _ = text[start:].partition(":")
    return f"{text[:start]}{name}: {dice.choice(('1', '{}', '[]', 'null', chr(34) * 2))}, {text[start:]}"


# --- the genuine things, and what must hold --------------------------------------------------------------------------


class Bench:
    """A platform with genuine evidence of four kinds, in a folder of its own."""

    def __init__(self, root: Path) -> None:
        """Make keys, evidence, trust file and policy."""
        self.root = root
        for name in ("pipeline", "trainer", "stranger"):
            generate_key(root / "keys" / f"{name}.pem")
        self.keys = {name: load_signer(f"file:{root}/keys/{name}.pem") for name in ("pipeline", "trainer", "stranger")}
        entries = [
            trust_entry(
                "pipeline", self.keys["pipeline"], not_before=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
            ),
            trust_entry("trainer", self.keys["trainer"], ["deploy-model"]),
        ]
        self.trust_document = {
            "version": 1,
            "signers": entries,
            "policies": [{"name": "baseline", "sha256": "ab" * 32}],
        }
        self.trust_path = root / "trust.yaml"
        self.trust_path.write_text(yaml.safe_dump(self.trust_document))
        self.trust = load_trust(self.trust_path)
        self.policy = files("kfp_custody.components.policy_gate").joinpath("policies/baseline.yaml").read_bytes()
        self.policy_document = yaml.safe_load(self.policy)
        self.moment = now() + datetime.timedelta(minutes=1)
        self.folders = self._evidence()
        self._sort_names()
        self.bundles = {kind: self._bundle(kind).read_bytes() for kind in self.folders}
        self.payloads = {
            kind: base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"]) for kind, data in self.bundles.items()
        }
        self.validators = validators()
        self._check_the_bench()

    def _evidence(self) -> dict[Kind, Path]:
        dataset = write_tree(
            self.root / "dataset", {"data.parquet": parquet("rows"), "part/é.parquet": parquet("more"), "z": b""}
        )
        listing, signer = list_tree(dataset), self.keys["pipeline"]
        folders = {kind: self.root / kind.name for kind in SCHEMAS}
        write_masking(folders[MASKING], dataset, signer)
        trained = provenance(
            TRAINING,
            listing,
            run_id=RUN,
            started=now(),
            parameters={"seed": 7},
            internal={"mlflow": {"run_id": "x"}},
            dependencies=[resource("dataset", "ab" * 32), resource("dvc", md5="cd" * 16)],
            byproducts=[resource("metrics", "ef" * 32, annotations={"auc": 0.9})],
        )
        write_evidence(folders[TRAINING], trained, signer, listing)
        decided = verification_summary(
            listing,
            passed=True,
            run_id=RUN,
            resource_uri="models:/x",
            policy_uri="baseline",
            policy_sha256="ab" * 32,
            inputs={"masking": "cd" * 32, "training": "ef" * 32},
            levels=["X"],
        )
        write_evidence(folders[DECISION], decided, signer, listing)
        folders[MODEL_SIGNATURE].mkdir()
        sign_model_tree(dataset, folders[MODEL_SIGNATURE] / "model.sig", signer)
        return folders

    def _sort_names(self) -> None:
        """Sign the model's statement again with its names in order: its writer's order differs between processes."""
        path = self._bundle(MODEL_SIGNATURE)
        statement = json.loads(base64.b64decode(json.loads(path.read_bytes())["dsseEnvelope"]["payload"]))
        sign_payload(path, json.dumps(statement, sort_keys=True).encode(), self.keys["pipeline"])

    def _bundle(self, kind: Kind) -> Path:
        name = "model.sig" if kind is MODEL_SIGNATURE else f"{kind.name}.sigstore.json"
        return self.folders[kind] / name

    def _check_the_bench(self) -> None:
        for kind, payload in self.payloads.items():
            self.read(kind)
            assert self.validators[SCHEMAS[kind]].is_valid(json.loads(payload)), kind
        assert self.validators["trust"].is_valid(as_json(self.trust_document))
        assert self.validators["policy"].is_valid(self.policy_document)

    def read(self, kind: Kind) -> Verified:
        """Read evidence as a stage does; of a model signature without the model."""
        if kind is MODEL_SIGNATURE:
            return read_model_signature(self._bundle(kind), self.trust, at=self.moment)
        return read_evidence(self.folders[kind], kind, self.trust, run_id=RUN, at=self.moment)

    # Each of the targets below changes something, reads, and puts it back.

    def bundle_bytes(self, dice: random.Random) -> None:
        """The bundle file, changed at the level of bytes."""
        kind = dice.choice(list(SCHEMAS))
        self._unsigned(kind, change_bytes(self.bundles[kind], dice))

    def bundle_structure(self, dice: random.Random) -> None:
        """The bundle, changed as a document."""
        kind = dice.choice(list(SCHEMAS))
        text = json.dumps(change_structure(json.loads(self.bundles[kind]), dice))
        self._unsigned(kind, (repeat_a_name(text, dice) if dice.random() < 0.1 else text).encode())

    def payload_unsigned(self, dice: random.Random) -> None:
        """The payload, changed under the old signature."""
        kind = dice.choice(list(SCHEMAS))
        document = json.loads(self.bundles[kind])
        payload = self._payload(kind, dice)
        document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        self._unsigned(kind, json.dumps(document).encode())

    def payload_by_another_key(self, dice: random.Random) -> None:
        """The payload, changed or not, signed by a key that may not."""
        kind = dice.choice(list(SCHEMAS))
        payload = self.payloads[kind] if dice.random() < 0.2 else self._payload(kind, dice)
        key = self.keys[dice.choice(("stranger", "trainer"))]

        def check(_: Verified) -> None:
            raise Unsound("evidence by a key that may not sign it was accepted")

        with Restored(self._bundle(kind)) as path:
            sign_payload(path, payload, key)
            if dice.random() < 0.5:
                document = json.loads(path.read_bytes())
                document["verificationMaterial"] = json.loads(self.bundles[kind])["verificationMaterial"]
                path.write_text(json.dumps(document))
            check(self.read(kind))

    def payload_signed(self, dice: random.Random) -> None:
        """The payload, changed and signed again by the key that may: only a well-formed statement is accepted."""
        kind = dice.choice(list(SCHEMAS))
        payload = self._payload(kind, dice)
        with Restored(self._bundle(kind)) as path:
            sign_payload(path, payload, self.keys["pipeline"])
            try:
                verified = self.read(kind)
            except CustodyError as refusal:
                sayable = refusal.code in SHAPE and not any(words in refusal.evidence for words in BEYOND)
                if sayable and self._allowed(kind, payload):
                    raise Unsound(f"the schema allows what was refused: {refusal.evidence}") from refusal
                raise
        for error in self.validators[SCHEMAS[kind]].iter_errors(json.loads(payload)):
            raise Unsound(f"the schema of {kind.name} does not allow what was accepted: {error.json_path}")
        if json.loads(payload) != verified.statement or verified.kind is not kind or verified.signer != "pipeline":
            raise Unsound("what was read is not what was signed")
        if kind is not MODEL_SIGNATURE and (
            verified.run_id != RUN or verified.subject_sha256 != sha256_bytes(self._listing(kind))
        ):
            raise Unsound("evidence of another run or subject was accepted")

    def listing(self, dice: random.Random) -> None:
        """The listing beside the evidence."""
        kind = dice.choice((MASKING, TRAINING, DECISION))
        before = self._listing(kind)
        with Restored(self.folders[kind] / "SHA256SUMS") as path:
            path.write_bytes(change_bytes(before, dice))
            verified = self.read(kind)
            if path.read_bytes() != before or verified.listing is None:
                raise Unsound("a changed listing was accepted")

    def signed_listing(self, dice: random.Random) -> None:
        """The listing, with a statement about it that was signed again: only what a tree can have is accepted."""
        kind = dice.choice((MASKING, TRAINING, DECISION))
        changed = change_bytes(self._listing(kind), dice)
        statement = json.loads(self.payloads[kind])
        statement["subject"][0]["digest"]["sha256"] = sha256_bytes(changed)
        with Restored(self._bundle(kind)) as bundle, Restored(self.folders[kind] / "SHA256SUMS") as path:
            path.write_bytes(changed)
            sign_payload(bundle, json.dumps(statement).encode(), self.keys["pipeline"])
            verified = self.read(kind)
        if verified.listing is None or verified.listing.text != changed:
            raise Unsound("a listing was accepted that is not what its entries would be written as")
        for entry in verified.listing.entries:
            if entry.name.startswith("/") or ".." in entry.name.split("/"):
                raise Unsound("a listing was accepted that leads elsewhere")

    def trust_file(self, dice: random.Random) -> None:
        """The trust file: what it still trusts are the keys that it named."""
        known = {signer.hint: signer for signer in self.trust.signers.values()}
        with Restored(self.trust_path) as path:
            path.write_bytes(self._yaml(path.read_bytes(), self.trust_document, dice))
            trust = load_trust(path)
            document = parse_yaml(path.read_bytes())
        if not self.validators["trust"].is_valid(as_json(document)):
            raise Unsound("a trust file was accepted that the schema does not allow")
        verified = read_evidence(self.folders[MASKING], MASKING, trust, run_id=RUN, at=self.moment)
        used = next(signer for signer in trust.signers.values() if signer.name == verified.signer)
        if used.hint not in known or "mask-pii" not in used.may_sign:
            raise Unsound("a key was trusted that the trust file does not name for this")

    def policy_file(self, dice: random.Random) -> None:
        """The policy file: what is accepted is what the schema allows, and never a policy without rules."""
        path = self.root / "policy.yaml"
        path.write_bytes(self._yaml(self.policy, self.policy_document, dice))
        policy = load_policy(str(path))
        if not policy.rules or not policy.requires or policy.sha256 != sha256_bytes(path.read_bytes()):
            raise Unsound("a policy that refuses nothing was accepted")
        if not self.validators["policy"].is_valid(parse_yaml(path.read_bytes())):
            raise Unsound("a policy was accepted that the schema does not allow")

    def _unsigned(self, kind: Kind, data: bytes) -> None:
        """Read a bundle whose signature nobody made again: the payload and its signer are the genuine ones."""
        with Restored(self._bundle(kind)) as path:
            path.write_bytes(data)
            verified = self.read(kind)
        read = base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"])
        if read != self.payloads[kind] or verified.statement != json.loads(self.payloads[kind]):
            raise Unsound("a payload was accepted that nobody signed")
        if verified.signer != "pipeline":
            raise Unsound("the signature was taken for another signer's")

    def _payload(self, kind: Kind, dice: random.Random) -> bytes:
        if dice.random() < 0.35:
            return change_bytes(self.payloads[kind], dice)
        text = json.dumps(change_structure(json.loads(self.payloads[kind]), dice))
        return (repeat_a_name(text, dice) if dice.random() < 0.1 and "{" in text else text).encode()

    def _listing(self, kind: Kind) -> bytes:
        return (self.folders[kind] / "SHA256SUMS").read_bytes()

    def _allowed(self, kind: Kind, payload: bytes) -> bool:
        return self.validators[SCHEMAS[kind]].is_valid(json.loads(payload))

    @staticmethod
    def _yaml(data: bytes, document: Any, dice: random.Random) -> bytes:
        if dice.random() < 0.5:
            return change_bytes(data, dice)
        return yaml.safe_dump(change_structure(document, dice), sort_keys=False).encode()


class Restored:
    """Puts a file back as it was."""

    def __init__(self, path: Path) -> None:
        """Remember the file."""
        self.path, self.before = path, path.read_bytes()

    def __enter__(self) -> Path:
        """Return its path."""
        return self.path

    def __exit__(self, *_: object) -> None:
        """Write what was there."""
        self.path.write_bytes(self.before)


def as_json(document: Any) -> Any:
    """Return a YAML document with its dates as text, as a schema of JSON sees them."""
    return json.loads(json.dumps(document, default=lambda value: value.isoformat()))


def validators() -> dict[str, Draft202012Validator]:
    """Return the published schemas, each able to find the parts that it shares."""
    folder = files("kfp_custody.components._shared").joinpath("schemas")
    found = {
        path.name.removesuffix(".json"): json.loads(path.read_bytes())
        for path in folder.iterdir()
        if path.name.endswith(".json")
    }
    registry = Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in found.values())
    return {name: Draft202012Validator(schema, registry=registry) for name, schema in found.items()}


# YAML is read by Python alone, a hundred times slower than the rest: those targets get fewer inputs.
TARGETS: list[tuple[Callable[[Bench, random.Random], None], int]] = [
    (Bench.bundle_bytes, 20),
    (Bench.bundle_structure, 20),
    (Bench.payload_unsigned, 10),
    (Bench.payload_by_another_key, 10),
    (Bench.payload_signed, 25),
    (Bench.listing, 5),
    (Bench.signed_listing, 6),
    (Bench.trust_file, 2),
    (Bench.policy_file, 2),
]


def run_one(bench: Bench, seed: int, number: int, count: Count) -> None:
    """Run one input and count how it ended."""
    dice = random.Random(f"{seed}/{number}")
    target = dice.choices([target for target, _ in TARGETS], [weight for _, weight in TARGETS])[0]
    name = target.__name__
    count.inputs[name] += 1
    try:
        target(bench, dice)
        count.ended["accepted, and neutral"] += 1
    except CustodyError as refusal:
        count.ended[refusal.code] += 1
        if refusal.code not in codes.CODES:
            count.findings.append(Finding(number, name, f"refused with the unknown code {refusal.code}"))
    except Unsound as unsound:
        count.findings.append(Finding(number, name, str(unsound)))
    except DocumentFault as fault:
        count.findings.append(Finding(number, name, f"DocumentFault: {fault}", traceback.format_exc()))
    except Exception as error:  # noqa: BLE001  (what the fuzz looks for)
        count.findings.append(Finding(number, name, f"{type(error).__name__}: {error}"[:300], traceback.format_exc()))


def run(seed: int, first: int, inputs: int) -> Count:
    """Run some inputs one after another in a folder that is kept in memory where the system has such a place."""
    count = Count()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
    with tempfile.TemporaryDirectory(prefix="custody-fuzz-", dir=memory) as folder:
        bench = Bench(Path(folder))
        for number in range(first, first + inputs):
            run_one(bench, seed, number, count)
    return count


def main() -> int:
    """Run and print counts; 1 when anything was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=120_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", type=int, help="run this one input alone and show its traceback")
    given = parser.parse_args()
    start, total = time.monotonic(), Count()
    if given.only is not None:
        total = run(given.seed, given.only, 1)
    else:
        size = 2000
        parts = [(given.seed, at, min(size, given.inputs - at)) for at in range(0, given.inputs, size)]
        with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
            for count in pool.starmap(run, parts, chunksize=1):
                total.add(count)
    for name, number in sorted(total.inputs.items()):
        print(f"{number:8}  {name}")
    print(f"{total.inputs.total():8}  inputs in {time.monotonic() - start:.0f} s, seed {given.seed}; how they ended:")
    for ending, number in total.ended.most_common():
        print(f"{number:8}  {ending}: {codes.CODES.get(ending, 'what was signed was not changed, or is well-formed')}")
    for finding in total.findings[:20]:
        print(f"FOUND --only {finding.number}: {finding.target}: {finding.why}")
        if given.only is not None:
            print(finding.trace)
    print(f"{len(total.findings)} findings")
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main())
