"""Output for people: tables, plots, reports of runs and sweeps, model cards, progress displays."""
