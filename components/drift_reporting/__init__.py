"""Show two months in Evidently's own report."""
