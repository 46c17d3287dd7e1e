"""Play one episode of a served world with the model behind an endpoint: `chaosops infer`, and nothing but that."""

from __future__ import annotations

import sys

from chaosops_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["infer", *sys.argv[1:]]))
