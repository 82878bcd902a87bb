"""Stock Presidio's findings in a fraction of its time: many texts at once, nothing computed that decides nothing."""
