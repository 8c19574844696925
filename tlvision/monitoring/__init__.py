"""Compare what a deployed model sees with what it was measured on: logs of small records, and tests. No torch."""
