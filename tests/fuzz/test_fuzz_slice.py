"""A small slice of the fuzz in every test run; `make fuzz` runs the rest."""

import fuzz_evidence

INPUTS = 2000


def test_no_mutation_gets_through() -> None:
    count = fuzz_evidence.run(seed=2, first=0, inputs=INPUTS)
    assert [(finding.number, finding.target, finding.why) for finding in count.findings] == []
    assert count.inputs.total() == count.ended.total() == INPUTS
    assert set(count.inputs) == {target.__name__ for target, _ in fuzz_evidence.TARGETS}
    assert len(count.ended) > 20  # the mutations reach deep, and are not all refused for one reason
