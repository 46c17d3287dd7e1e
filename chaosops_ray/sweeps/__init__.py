"""Several runs side by side: their specification, Ray Tune, the comparison, and jobs on a cluster."""
