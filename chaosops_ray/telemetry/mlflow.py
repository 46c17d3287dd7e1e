"""The sink for an MLflow server, through its REST interface: the package does not install beside the pins.

As for MLflow's own client, MLFLOW_TRACKING_URI is the server and MLFLOW_EXPERIMENT_NAME the experiment;
MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, open it.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from chaosops_ray.plain_text import one_line
from chaosops_ray.store.files import write_text
from chaosops_ray.telemetry.clock import stamp
from chaosops_ray.telemetry.sinks import Described, SinkError
from chaosops_ray.telemetry.table import Sample

EXPERIMENT = "chaosops"
_ADDRESS = "MLFLOW_TRACKING_URI"
# In the run's folder: the id of the run there, so that a run that is resumed goes on in the same place.
_ID = "mlflow-id"
_SECONDS = 20.0
_NOT_FOUND = 404
# What one request may hold, and the longest value of a parameter that every release of the server takes.
_METRICS, _PARAMETERS, _LONGEST = 1000, 100, 500


class MlflowSink:
    """A run of an MLflow server, with the update as the step."""

    def __init__(self, described: Described) -> None:
        self._server = _server()
        try:
            self._id = self._resumed(described) or self._created(described)
        except (OSError, HTTPException, ValueError, KeyError) as error:
            raise SinkError(
                f"telemetry: mlflow does not start: {_reason(error)}; check {_ADDRESS} and that the server runs"
            ) from None

    def write(self, samples: Sequence[Sample], update: int) -> None:
        """Log an update."""
        at = _milliseconds()
        found = [{"key": one.key, "value": one.value, "timestamp": at, "step": update} for one in samples]
        for first in range(0, len(found), _METRICS):
            self._post("runs/log-batch", {"run_id": self._id, "metrics": found[first : first + _METRICS]})

    def idle(self) -> None:
        """Wait for the next update."""

    def close(self) -> None:
        """Mark the run as ended."""
        self._post("runs/update", {"run_id": self._id, "status": "FINISHED", "end_time": _milliseconds()})

    def _resumed(self, described: Described) -> str | None:
        known = _known(described.folder)
        if not known.exists():
            return None
        run = known.read_text(encoding="utf-8")
        self._post("runs/update", {"run_id": run, "status": "RUNNING"})
        return run

    def _created(self, described: Described) -> str:
        given = {"experiment_id": self._experiment(), "run_name": described.name, "start_time": _milliseconds()}
        run: str = self._post("runs/create", given)["run"]["info"]["run_id"]
        parameters = [{"key": key, "value": str(value)[:_LONGEST]} for key, value in described.settings.items()]
        for first in range(0, len(parameters), _PARAMETERS):
            self._post("runs/log-batch", {"run_id": run, "params": parameters[first : first + _PARAMETERS]})
        write_text(_known(described.folder), run)
        return run

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        try:
            asked = urlencode({"experiment_name": name})
            found: str = self._ask(f"experiments/get-by-name?{asked}")["experiment"]["experiment_id"]
        except HTTPError as error:
            if error.code != _NOT_FOUND:
                raise
            found = self._post("experiments/create", {"name": name})["experiment_id"]
        return found

    def _post(self, what: str, given: Mapping[str, Any]) -> dict[str, Any]:
        return self._ask(what, json.dumps(given).encode())

    def _ask(self, what: str, body: bytes | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", **_permission()}
        request = Request(f"{self._server}/api/2.0/mlflow/{what}", body, headers)  # noqa: S310 - _server() has looked
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found


def opened(described: Described) -> MlflowSink:
    """Open the sink of a run."""
    return MlflowSink(described)


def _known(folder: Path) -> Path:
    return folder / _ID


def _server() -> str:
    given = os.environ.get(_ADDRESS, "")
    address = urlsplit(given)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise SinkError(
            f"telemetry: mlflow needs a server; set {_ADDRESS} to its address, such as http://127.0.0.1:5000"
        )
    if address.username or address.password:
        raise SinkError(
            f"telemetry: {_ADDRESS} has a password in it; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return given.rstrip("/")


def _permission() -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        return {"Authorization": f"Bearer {token}"}
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    if not user:
        return {}
    return {"Authorization": "Basic " + b64encode(f"{user}:{password or ''}".encode()).decode()}


def _milliseconds() -> int:
    return int(1000 * stamp())


def _reason(error: Exception) -> str:
    return one_line(getattr(error, "reason", None) or error)
