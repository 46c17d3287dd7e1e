"""A seat of a world as an environment of TRL's `GRPOTrainer`: each action of the seat is a tool that the model calls.

    seat = seat_spec("incident", "dev", tiers=["easy"])
    trainer = GRPOTrainer(
        model=model,
        train_dataset=Dataset.from_list(rows(seat, 100)),
        environment_factory=environment_class(seat),
        args=GRPOConfig(...),
    )

TRL itself is not imported here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from chaosops_ray.agents.forms import BY_CALLS
from chaosops_ray.agents.seat_spec import FIRST_SEED, SeatSpec, leave
from chaosops_ray.agents.session import Session
from chaosops_ray.sim.actions import Form, Parameter
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.speech import Unparsed

# What TRL calls itself on an environment; no tool can have these names.
_OWN = ("reset", "get_reward")
_BY_CALLS = (
    f"{BY_CALLS} The result of the call is what you see on your next turn. An answer without a call ends your part of "
    "the episode."
)


class SeatEnvironment:
    """A seat that a model plays by calling tools, the methods that `environment_class` adds. One rollout at a time.

    Colleagues play the other seats between two calls.
    """

    _seat: SeatSpec
    _session: Session | None = None

    def reset(self, *, seed: int | None = None, scenario: str | None = None, **_columns: object) -> str:
        """Begin an episode, of the row's `seed` or `scenario` id; return what the seat is told first."""
        if (seed is None) == (scenario is None):
            raise InputError("a row needs a column seed, or a column scenario with an id; make rows with `rows`")
        chosen = self._seat.environment.scenario(scenario) if scenario is not None else self._seat.scenario(seed or 0)
        self._session = self._seat.session(chosen)
        return self._session.text

    def get_reward(self) -> float:
        """Return the return of the episode; a seat that stopped early says nothing until its end."""
        session = session_of(self)
        leave(session)
        return float(session.episode.total)  # a sum of no components is a whole number

    def _call(self, form: Form, arguments: dict[str, Any]) -> str:
        """Take the action of a tool call; return what the seat is told next."""
        session = session_of(self)
        if session.is_over:
            return session.text
        action, turn = session.environment.call(form.name, arguments), len(session.running.steps)
        session.act(action)
        wrong = _wrong(form, arguments, session.running.steps[turn].action)
        return f"That call of {form.name} is not valid: {wrong}.\n{session.text}" if wrong else session.text


def _wrong(form: Form, arguments: dict[str, Any], taken: object) -> str:
    """Say what is wrong with a call; a world may take a name that does not exist as an action that helps nobody."""
    if isinstance(taken, Unparsed):
        return taken.reason
    for parameter in form.parameters:
        given = arguments.get(parameter.name)
        if parameter.valid and given is not None and given not in parameter.valid:
            return f"{parameter.name} must be one of {', '.join(parameter.valid)}"
    return ""


def session_of(environment: SeatEnvironment) -> Session:
    """Return the episode that an environment plays, for reward functions and metrics of your own."""
    if environment._session is None:
        raise InputError("no episode has begun: call reset first")
    return environment._session


def environment_class(seat: SeatSpec) -> type[SeatEnvironment]:
    """Make the class for `environment_factory`: its public methods are the seat's actions, `reset` and `get_reward`."""
    world, forms = seat.environment.name, seat.environment.forms(seat.role, seat.rules)
    for form in forms:
        if form.name in _OWN or form.name.startswith("_"):
            raise InputError(f"world {world} has an action {form.name}, a name that TRL uses otherwise; rename it")
    # TRL logs the reward under the name of the class.
    name = "".join([part.capitalize() for part in f"{world}_{seat.role}".split("_")])
    return type(name, (SeatEnvironment,), {"_seat": seat, **{form.name: _tool(form) for form in forms}})


def rows(seat: SeatSpec, count: int, first_seed: int = FIRST_SEED) -> list[dict[str, Any]]:
    """Make rows for a data set: the prompt, to which `reset` adds the first observation, and a seed.

    A seed names no failure, question or answer, and the prompt is the same in each row. It has no examples of answers:
    the world writes them as text, and here an answer is a call.
    """
    environment = seat.environment
    system = f"{environment.system_prompt(seat.role, seat.rules, seat.style)}\n\n{_BY_CALLS}"
    prompt = [{"role": "system", "content": system}, {"role": "user", "content": ""}]
    return [{"prompt": prompt, "seed": seed} for seed in seat.seeds(count, first_seed)]


# -- methods as TRL reads them: a signature, type hints, and a docstring with a line for each argument ----------------


def _tool(form: Form) -> Callable[..., str]:
    # Whatever a model passes is accepted here, and judged by the world; the signature tells what is expected.
    def tool(self: SeatEnvironment, /, **arguments: Any) -> str:
        return self._call(form, arguments)

    hints = {parameter.name: _hint(parameter) for parameter in form.parameters}
    described: Any = tool
    described.__name__ = form.name
    described.__qualname__ = f"{SeatEnvironment.__name__}.{form.name}"
    described.__doc__ = _docstring(form)
    described.__annotations__ = {**hints, "return": str}
    described.__signature__ = inspect.Signature(
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY),
            *[
                inspect.Parameter(
                    parameter.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    annotation=hints[parameter.name],
                    default=inspect.Parameter.empty if parameter.is_required else parameter.default,
                )
                for parameter in form.parameters
            ],
        ],
        return_annotation=str,
    )
    return tool


_HINTS: dict[str, Any] = {"text": str, "whole": int, "number": float, "probability": float, "scalar": str | float}
_DESCRIBED = {
    "text": "A text.",
    "whole": "A whole number.",
    "number": "A number.",
    "probability": "A probability, from 0 to 1.",
    "scalar": "A text or a number.",
}


def _hint(parameter: Parameter) -> Any:
    hint = Literal[parameter.valid] if parameter.valid else _HINTS[parameter.kind]
    return hint if parameter.is_required or parameter.default is not None else hint | None


def _docstring(form: Form) -> str:
    purpose = " ".join(form.purpose.split())
    lines = [f"    {parameter.name}: {_description(parameter)}" for parameter in form.parameters]
    return "\n".join([purpose, "", *(["Args:", *lines, ""] if lines else []), "Returns:", "    What you see next."])


def _description(parameter: Parameter) -> str:
    described = f"One of {', '.join(parameter.valid)}." if parameter.valid else _DESCRIBED[parameter.kind]
    if parameter.is_required:
        return described
    return f"{described} {'May be left out.' if parameter.default is None else f'{parameter.default!r} if left out.'}"
