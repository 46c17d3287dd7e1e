"""The sink for Weights & Biases. Its own settings apply: `wandb login`, WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

import wandb

from chaosops_ray.plain_text import one_line
from chaosops_ray.store.files import make_folder, write_text
from chaosops_ray.telemetry.sinks import Described, SinkError, without_secrets
from chaosops_ray.telemetry.table import Sample

PROJECT = "chaosops"
# In the run's folder: the name of the run there, so that a run that is resumed goes on in the same place.
_ID = "wandb-id"
# Hidden, because its own process writes and deletes there while the rest of the folder may be copied to a store.
_FOLDER = ".wandb"


class WandbSink:
    """A run of Weights & Biases, with the update as the axis."""

    def __init__(self, described: Described) -> None:
        known, folder = described.folder / _ID, described.folder / _FOLDER
        try:
            make_folder(folder)
            if not known.exists():
                write_text(known, secrets.token_hex(8))
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=known.read_text(encoding="ascii"),
                name=described.name,
                dir=str(folder),
                config=dict(described.settings),
                resume="allow",
                allow_val_change=True,
                reinit="create_new",  # and not the run of the process, which other code may look for
                # Its lines would run through the display.
                settings=wandb.Settings(console="off", silent=True),
            )
        except (wandb.Error, OSError) as error:
            remedy = "run `wandb login`, or set WANDB_MODE=offline"
            raise SinkError(f"telemetry: wandb does not start: {without_secrets(one_line(error))}; {remedy}") from None
        # Not its own step, which may never go back: a learner that died makes updates again.
        self._run.define_metric("*", step_metric="update")

    def write(self, samples: Sequence[Sample], update: int) -> None:
        """Log an update; the package sends it when it can."""
        self._run.log({sample.key: sample.value for sample in samples} | {"update": update})

    def idle(self) -> None:
        """Wait for the next update."""

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


def opened(described: Described) -> WandbSink:
    """Open the sink of a run."""
    return WandbSink(described)
