"""What people look at: tables, plots, reports of runs and sweeps, the model card, progress displays."""
