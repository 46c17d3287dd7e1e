"""The seeds of scenarios that anything may be trained on: those of reports, red teams and tests lie below."""

FIRST = 100_000
COUNT = 100_000_000
