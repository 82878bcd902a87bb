"""What the command prints and how it exits: JSON, drawings, usage errors, a process of its own without a network."""

import json
import os
import re
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import jsonschema
import pytest
from releases import Release, run

from forging import bundle_of, edit_payload
from kfp_custody.components._shared.codes import CODES

ROOT = Path(__file__).resolve().parents[3]
COMMAND = [sys.executable, "-m", "kfp_custody.components._cli.main"]

TEXT, MAYBE = {"type": "string"}, {"type": ["string", "null"]}
SHA256 = {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"}
TIME = {"type": ["string", "null"], "pattern": "^[0-9-]{10}T[0-9:]{8}Z$"}


def exactly(**properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


# Fields are only ever added: whoever reads version 1 today can read it in ten years.
SCHEMA = exactly(
    version={"const": 1},
    verdict={"enum": ["PASSED", "REFUSED"]},
    path=TEXT,
    run_id=MAYBE,
    judged_at=TIME,
    trust=exactly(path=TEXT, sha256=SHA256),
    evidence={
        "type": "array",
        "items": exactly(
            name=TEXT,
            path=TEXT,
            bundle_sha256=SHA256,
            accepted={"type": "boolean"},
            kind=MAYBE,
            signer=MAYBE,
            time=TIME,
            result={"enum": ["PASSED", "WARNED", "FAILED", None]},
            subject_sha256=SHA256,
        ),
    },
    checks={
        "type": "array",
        "minItems": 1,
        "items": exactly(id=TEXT, verdict={"enum": ["PASSED", "FAILED"]}, code={"enum": [*CODES, None]}, detail=TEXT),
    },
    notes={"type": "array", "items": TEXT},
)


@pytest.fixture
def tampered(release: Release) -> Release:
    edit_payload(bundle_of(release.root / "provenance"), b"xgboost", b"Xgboost")
    return release


def test_the_json_has_its_schema(release: Release) -> None:
    jsonschema.validate(json.loads(release.ask("--json", "--policy", "baseline").stdout), SCHEMA)
    edit_payload(bundle_of(release.root / "provenance"), b"xgboost", b"Xgboost")
    bundle_of(release.root / "drift").unlink()
    (release.root / "drift" / "check-drift.sigstore.json").symlink_to("nowhere")
    answer = json.loads(release.ask("--json").stdout)
    jsonschema.validate(answer, SCHEMA)
    accepted = {piece["name"]: piece["accepted"] for piece in answer["evidence"]}
    assert accepted["masking"]
    assert not accepted["training"]
    assert not accepted["drift"]
    assert all(check["code"] for check in answer["checks"] if check["verdict"] == "FAILED")
    assert not any(check["code"] for check in answer["checks"] if check["verdict"] == "PASSED")


def test_the_json_of_an_empty_folder_has_its_schema(release: Release, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    answer = json.loads(Release(tmp_path / "nothing", release.site).ask("--json").stdout)
    jsonschema.validate(answer, SCHEMA)
    assert answer["verdict"] == "REFUSED"


# --- show ------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.titles: list[str] = []
        self._in_title = False
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "data")]
        self._in_title = tag == "title"

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.titles.append(data)
            self._in_title = False


def test_show_draws_what_was_made_from_what(release: Release) -> None:
    result = release.ask(command="show")
    assert result.exit_code == 0, result.output
    lines = {line.split()[1]: line for line in result.stdout.splitlines() if line.startswith("  ok")}
    assert lines["dataset"].endswith("<- masking <- source")
    assert lines["drift"].endswith("<- dataset <- training <- current-masking")
    assert lines["decision"].endswith("<- model <- drift")


def test_show_marks_what_is_refused(tampered: Release) -> None:
    result = tampered.ask(command="show")
    assert result.exit_code == 1
    lines = {line.split()[1]: line for line in result.stdout.splitlines() if re.match(r"  (ok|REFUSED) ", line)}
    assert lines["training"].startswith("  REFUSED")
    assert lines["masking"].startswith("  ok")
    assert "<-x- training" in lines["drift"]
    assert "[CUS-E226]" in result.stdout


def test_show_writes_a_page_that_needs_nothing_else(release: Release, tmp_path: Path) -> None:
    out = tmp_path / "chain.html"
    assert release.ask("--html", str(out), command="show").exit_code == 0
    page = Page(out.read_text())
    assert "svg" in page.tags
    assert "script" not in page.tags
    assert page.links == ["data:,"]
    assert not re.search(r"url\((?!#)|@import", out.read_text())
    assert [title for title in page.titles if title.endswith(": refused")] == []
    assert "enforce_policy: holds" in page.titles


def test_the_page_shows_refused_pieces_in_red(tampered: Release, tmp_path: Path) -> None:
    out = tmp_path / "chain.html"
    assert tampered.ask("--html", str(out), command="show").exit_code == 1
    text = out.read_text()
    titles = Page(text).titles
    assert "train_model: refused" in titles
    assert "mask_pii: holds" in titles
    box = text[text.index("train_model: refused") :]
    assert 'stroke="#cf222e"' in box[: box.index("</g>")]
    assert "Why it is refused" in text
    assert "CUS-E226" in text


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["verify"],
        ["verify", "{root}"],
        ["verify", "{root}/nowhere", "--trust", "{trust}"],
        ["verify", "{trust}", "--trust", "{trust}"],
        ["verify", "{root}", "--trust", "{root}/nowhere"],
        ["verify", "{root}", "--trust", "{root}"],
        ["verify", "{root}", "--trust", "{trust}", "--at", "yesterday"],
        ["verify", "{root}", "--trust", "{trust}", "--at", "2026-01-01T00:00:00"],
        ["verify", "{root}", "--trust", "{trust}", "--at", "2026-13-01T00:00:00Z"],
        ["verify", "{root}", "--trust", "{trust}", "--unknown"],
        ["verify", "{root}", "--trust", "{root}/masking/report.json"],
        ["verify", "{root}", "--trust", "{trust}", "--policy", "{root}/nowhere.yaml"],
        ["verify", "{root}", "--trust", "{trust}", "--policy", "no-such-policy"],
        ["show", "{root}"],
        ["trust"],
        ["policy", "lint"],
        ["prove"],
    ],
    ids=" ".join,
)
def test_a_command_that_cannot_work_as_asked_exits_with_2(release: Release, arguments: list[str]) -> None:
    known = {"root": str(release.root), "trust": str(release.site.trust_path)}
    result = run(*(argument.format(**known) for argument in arguments))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output


def test_a_folder_that_cannot_be_read_is_not_passed_over(release: Release) -> None:
    as_anybody = ["setpriv", "--bounding-set", "-all"] if os.geteuid() == 0 else []  # root reads everything
    (release.root / "drift").chmod(0)
    done = ask([*as_anybody, *COMMAND], release)
    (release.root / "drift").chmod(0o755)
    assert done.returncode == 2
    assert done.stderr.startswith("REFUSED Misconfigured: [CUS-E522]")
    assert "Traceback" not in done.stderr


# --- as a process ----------------------------------------------------------------------------------------------------


def ask(command: list[str], release: Release) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, "verify", str(release.root), "--trust", str(release.site.trust_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd="/",
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C"},
    )


def without_a_network() -> list[str]:
    """Start in a network namespace without so much as a loopback, where that is allowed."""
    for prefix in (["unshare", "-n"], ["unshare", "-rn"]):
        if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
            return prefix
    return []


NO_SOCKET = """
import sys
def forbid(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(forbid)
from kfp_custody.components._cli.main import app
app()
"""


@pytest.mark.parametrize("way", ["namespace", "audit hook"])
def test_it_works_without_a_network_home_or_locale(release: Release, way: str) -> None:
    command = [*without_a_network(), *COMMAND] if way == "namespace" else [sys.executable, "-c", NO_SOCKET]
    done = ask(command, release)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("PASSED: ")
    assert done.stderr == ""
    edit_payload(bundle_of(release.root / "provenance"), b"xgboost", b"Xgboost")
    done = ask(command, release)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith("REFUSED EvidenceInvalid: [CUS-E226] ")
    assert lines[1].startswith("  evidence: evidence:training: ")
    assert lines[2].startswith("  remedy:   ")
    assert len(lines) == 3


def test_it_starts_light() -> None:
    code = (
        "import sys\nfrom kfp_custody.components._cli.main import app\n"
        "try: app(['verify', '--help'])\nexcept SystemExit: pass\n"
        "print('LOADED', *sorted({'kfp', 'cryptography', 'yaml', 'sigstore', 'model_signing', 'dvc', 'cel_expr_python',"
        " 'securesystemslib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_no_command_needs_kfp() -> None:
    modules = sorted(path.stem for path in (ROOT / "components" / "_cli").glob("*.py") if path.stem != "__init__")
    names = ", ".join(f"kfp_custody.components._cli.{name}" for name in modules)
    code = f"import sys, {names}\nprint('kfp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"


def test_the_installed_command_is_this_one() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["kfp-custody"].partition(":")
    assert callable(getattr(import_module(module), name))
