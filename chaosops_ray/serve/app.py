"""The server: OpenEnv's routes over a world, with a guard in front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from openenv.core.env_server.http_server import HTTPEnvServer
from openenv.core.env_server.types import ConcurrencyConfig

from chaosops_ray import __version__
from chaosops_ray.serve.asgi import App
from chaosops_ray.serve.environment import SeatEnvironment, Served
from chaosops_ray.serve.guard import Guard
from chaosops_ray.serve.limits import Limits
from chaosops_ray.serve.models import SeatAction, SeatObservation, SeatState
from chaosops_ray.serve.origin import SameOrigin
from chaosops_ray.serve.tasks import Catalog
from chaosops_ray.sim.contract import AnyEnvironment, PolicyFactory
from chaosops_ray.sim.errors import InputError


def create_app(
    environment: AnyEnvironment,
    rules: str,
    policies: Mapping[str, PolicyFactory] = MappingProxyType({}),
    limits: Limits = Limits(),  # noqa: B008 - a frozen value
    token: str | None = None,
    address: str = "127.0.0.1",
    names: Sequence[str] = (),
) -> App:
    """Return the application that serves a world under these rules.

    `policies` may be named as colleagues beside the world's baselines. Without a token, `address`, to which the server
    is bound, and `names` are those by which it may be reached: see `SameOrigin`.
    """
    doubled = [name for name in policies if name in environment.policies]
    if doubled:
        raise InputError(f"{doubled[0]} is a baseline of world {environment.name}; give the policy another name")
    served = Served(Catalog(environment), environment.rules(rules), policies, limits)
    server = HTTPEnvServer(
        partial(SeatEnvironment, served),
        SeatAction,
        SeatObservation,
        concurrency_config=ConcurrencyConfig(max_concurrent_envs=limits.sessions, session_timeout=limits.idle),
        env_name=environment.name,
        state_cls=SeatState,
    )
    # The pages at /docs would load scripts from elsewhere.
    app = FastAPI(title=environment.title, version=f"1.0.0+{__version__}", docs_url=None, redoc_url=None)
    server.register_routes(app)

    @app.exception_handler(InputError)
    async def refused(_: Any, error: InputError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 400)

    guard = Guard(app, limits, token)
    return SameOrigin(guard, address, names) if token is None else guard
