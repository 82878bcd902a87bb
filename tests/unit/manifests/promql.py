"""Which metrics a PromQL expression reads: every name in it that is no function, keyword, label or number."""

import re

_KEYWORDS = {
    *("and", "or", "unless", "bool", "offset", "on", "ignoring", "by", "without", "group_left", "group_right"),
    *("inf", "nan", "start", "end"),
}


def metric_names(expression: str) -> set[str]:
    """Return the names of the metrics."""
    text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expression)  # what stands in quotes
    text = re.sub(r"\{[^}]*\}", "", text)  # matchers
    text = re.sub(r"\[[^\]]*\]", "", text)  # ranges
    text = re.sub(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", text)  # lists of labels
    text = re.sub(r"\boffset\s+\w+", " ", text)
    names = re.findall(r"(?<![\w.])([a-zA-Z_:][\w:]*)\s*(?!\w)(?!\s*\()", text)
    return {name for name in names if name not in _KEYWORDS}
