"""An audit as a graph: lines of text, or one HTML page that needs nothing else."""

from kfp_custody.components._cli.audit import Audit
from kfp_custody.components._cli.discovery import LINKS
from kfp_custody.components._cli.refusals import printable
from kfp_custody.components._cli.rendering import grouped, heading
from kfp_custody.components._shared.evidence import stamp
from kfp_custody.components._shared.kinds import CANARY, FETCHING, PROFILE, PROFILE_DRIFT, ROLLOUT, SHARD_MASKING
from kfp_custody.components._shared.report import Markup, Section, badge, page, paragraph, table, text
from kfp_custody.components._shared.shards import read_shard
from kfp_custody.components.policy_gate.chain_drawing import draw_chain
from kfp_custody.components.policy_gate.checks import Check

# What a decision and a deployment stand on; the other links name theirs in their checks.
_STANDS_ON = {"decision": ("model", "drift")}
# Raw data that nobody fetched has no evidence, nor has a deployment without a canary; a profile need not be made.
_OPTIONAL = (FETCHING, CANARY, ROLLOUT, PROFILE, PROFILE_DRIFT)


def as_graph(done: Audit) -> str:
    """Return one line for each piece: its state, what it is made from (`<-`, broken `<-x-`), by whom and when."""
    lines = [f"chain of custody of run {done.run_id or '(none)'}", ""]
    for name, kind in LINKS.items():
        verified, faults = done.verified.get(name), _faults(done, name)
        state = "REFUSED" if faults else "ok" if name in done.places else "absent"
        if state == "absent" and kind in _OPTIONAL:
            continue
        if verified:
            said = (
                f"{verified.result or ''} by {verified.signer} {stamp(verified.time) if verified.time else ''}".strip()
            )
            made = f"sha256:{verified.subject_sha256[:16]}" if name != "model" else ""
        else:
            said = made = ""
        lines.append(f"  {state:<8}{name:<16} {kind.name:<15} {made:<24} {said:<45} {_made_from(done, name)}".rstrip())
        lines += [f"          {line}" for line in _shards(done, name)]
        lines += [f"          {check.id}: {' '.join(check.detail.split())}" for check in faults]
    others = [check for check in done.failed if not any(check in _faults(done, name) for name in LINKS)]
    lines += [f"  REFUSED {check.id}: {' '.join(check.detail.split())}" for check in others]
    lines += [f"  note    {note}" for note in done.notes]
    lines += ["", f"{done.verdict}: {len(done.checks)} checks, {len(done.failed)} refuse"]
    return printable("\n".join(lines))


def as_html(done: Audit) -> str:
    """Return the page: the drawing, why it was refused, every check."""
    digests = {name: piece.subject_sha256 for name, piece in done.verified.items() if name != "model"}
    digests["gate"] = digests.get("decision", "")
    decided = "REFUSED" if any(_about(check, "decision") for check in done.failed) else "PASSED"
    refused = "".join(
        f"<p>{badge('REFUSED')} <strong>{text(check.id)}</strong></p>{paragraph(printable(check.detail))}"
        for check in done.failed
    )
    sections = [Section("Why it is refused", refused)] if done.failed else []
    sections.append(Section("The chain", draw_chain(done.checks, decided, digests)))
    for title, checks in grouped(done.checks).items():
        rows = [
            (Markup(badge(check.verdict)), check.id.partition(":")[2], check.code, printable(check.detail))
            for check in checks
        ]
        sections.append(Section(title, table(("verdict", "check", "code", "what was seen"), rows)))
    if done.notes:
        sections.append(Section("Notes", "".join(paragraph(printable(note)) for note in done.notes)))
    about = [(name, printable(value)) for name, value in heading(done)]
    about += [(f"evidence {name}", f"bundle sha256:{digest}") for name, digest in done.shown.items()]
    sections.append(Section("What was judged", table(("", ""), about)))
    summary = f"{len(done.checks)} checks, {len(done.failed)} refuse. The chain holds only when none does."
    return page("Chain of custody", done.verdict, sections, summary)


def _shards(done: Audit, name: str) -> list[str]:
    """Return a line for each verified shard that a masking was put together from, in their order."""
    found = [
        (read_shard(piece), piece)
        for key, piece in done.verified.items()
        if key.startswith(f"{name}.") and piece.kind is SHARD_MASKING
    ]
    return [
        f"{shard}: rows {shard.first} to {shard.end}, sha256:{piece.subject_sha256[:16]}, by {piece.signer}"
        for shard, piece in sorted(found, key=lambda one: one[0].number)
    ]


def _faults(done: Audit, name: str) -> list[Check]:
    return [check for check in done.failed if _about(check, name)]


def _about(check: Check, name: str) -> bool:
    """Tell whether a check speaks of a piece: `evidence:drift`, `link:drift.model->training`, `bytes:model=drift`."""
    aspect, _, rest = check.id.partition(":")
    if aspect == "decision":
        return name == "decision"
    if aspect == "bytes":
        return rest.partition("=")[2] == name
    return aspect in ("evidence", "link") and rest.partition("->")[0].partition(".")[0] == name


def _made_from(done: Audit, name: str) -> str:
    """Return the arrows to what a piece names, once each; broken where any of the links is."""
    listed = not any(check.id == "decision:inputs" for check in done.failed)
    arrows: dict[str, bool] = dict.fromkeys(_STANDS_ON.get(name, ()), listed) if name in done.places else {}
    for check in done.checks:
        if check.id.startswith("link:") and _about(check, name):
            target = check.id.partition("->")[2].partition(".")[0]
            arrows[target] = arrows.get(target, True) and check.verdict == "PASSED"
    return " ".join(f"{'<-' if whole else '<-x-'} {target}" for target, whole in arrows.items())
