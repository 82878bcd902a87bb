"""Cron expressions of six fields, as Kubeflow Pipelines reads them."""

import pytest

from kfp_custody.components._cli.kfp_api.cron import require_cron
from kfp_custody.components._shared import codes
from kfp_custody.components._shared.errors import Misconfigured


@pytest.mark.parametrize(
    "expression",
    [
        "0 0 2 * * *",
        "0 30 4 1,15 * ?",
        "0 0 9 ? * 1-5",
        "0 0 9 ? * MON-FRI",
        "0 0 0 29 FEB *",
        "*/30 * * * * *",
        "0 5/15 8-18/2 * jan-mar,12 *",
        "59 59 23 31 12 6",
        "0 0 0 30 2 1",  # the day of the week fires where the day of the month never comes
    ],
)
def test_it_is_taken(expression: str) -> None:
    assert require_cron(f"  {expression.replace(' ', '   ')} ") == expression


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("0 2 * * *", "Write '0 0 2 * * *'."),
        ("*/5 * * * *", "Write '0 */5 * * * *'."),
        ("", "it has 0 fields and not six"),
        ("0 0 2 * * * 2026", "it has 7 fields and not six"),
        ("@daily", "it has 1 fields and not six"),
        ("60 0 2 * * *", "second has a value outside of 0 to 59"),
        ("0 60 2 * * *", "minute has a value outside of 0 to 59"),
        ("0 0 24 * * *", "hour has a value outside of 0 to 23"),
        ("0 0 2 0 * *", "day of month has a value outside of 1 to 31"),
        ("0 0 2 * 13 *", "month has a value outside of 1 to 12"),
        ("0 0 2 * * 7", "day of week has a value outside of 0 to 6"),
        ("0 0 2 * JANUARY *", "month has a value outside"),
        ("0 0 2 * * 5-1", "counts down"),
        ("0 0 2-1 * * *", "counts down"),
        ("0 0 */0 * * *", "hour is not understood"),
        ("0 0 2/ * * *", "hour is not understood"),
        ("0 0 ? * * *", "hour is not understood"),
        ("0 0 2,, * * *", "hour is not understood"),
        ("0 0 -2 * * *", "hour is not understood"),
        ("0 0 2 L * *", "day of month has a value outside"),
        ("0 0 0 30 2 *", "none of its months has a day 30"),
        ("0 0 0 31 4,6,9,11 ?", "none of its months has a day 31"),
        ("0 0 ２ * * *", "hour has a value outside"),
    ],
)
def test_it_is_refused_with_the_field_and_the_remedy(expression: str, said: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        require_cron(expression)
    assert said in f"{caught.value.evidence} {caught.value.remedy}"
    assert caught.value.code == codes.CRON
