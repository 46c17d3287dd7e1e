"""Seats that a person plays: lines in both spellings, what is no action, and what costs a turn."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from chaosops_ray.agents import human
from chaosops_ray.agents.human import Refusal
from chaosops_ray.agents.session import Session
from chaosops_ray.sim import ENVIRONMENTS, seats
from chaosops_ray.sim.contract import AnyEnvironment
from chaosops_ray.sim.errors import InputError
from chaosops_ray.sim.incident.model import Communicate, FlagRogue
from chaosops_ray.sim.speech import Unparsed
from chaosops_ray.sim.tools.model import Call
from tests.support.toy_world import TOY, Open

INCIDENT, TOOLS = ENVIRONMENTS["incident"], ENVIRONMENTS["tools"]


class Script:
    """A desk with lines that were typed before; keeps what it was told to show."""

    def __init__(self, *lines: str) -> None:
        self._lines = list(lines)
        self.turns: list[tuple[str | None, bool]] = []
        self.said: list[str] = []

    def show(self, session: Session, *, is_first: bool) -> None:
        self.turns.append((session.role, is_first))

    def say(self, lines: Sequence[str]) -> None:
        self.said += lines

    def ask(self, role: str) -> str:
        del role
        if not self._lines:
            raise EOFError
        return self._lines.pop(0)


def oversight(case: str = "autoscaler_cost_cut/hard/7") -> Session:
    scenario = INCIDENT.scenario(f"incident/{case}")
    others = seats.built(INCIDENT, {"sre": "oracle", "dev": "oracle", "manager": "oracle"}, scenario, "strict")
    return Session(INCIDENT, scenario, "strict", others)


def read(environment: AnyEnvironment, role: str, line: str, case: int = 0) -> object:
    world = environment.start(environment.cases[case], environment.rules("strict"))
    return human.read(environment, role, environment.rules("strict"), environment.view(world, role), line)


def test_a_line_that_is_no_action_costs_no_turn() -> None:
    session, desk = oversight(), Script("", "flag autoscalar", "restart db", "{", "?", "flag autoscaler")
    human.play(session, desk)
    assert [(step.role, step.action) for step in session.episode.steps if step.role == "oversight"] == [
        ("oversight", FlagRogue("autoscaler"))
    ]
    assert desk.turns == [("oversight", True)]
    refused = [line for line in desk.said if line.endswith("; ask for what you may do with ?")]
    assert [line.partition(";")[0] for line in refused] == [
        "the line is empty",
        'agent must be one of autoscaler, load_balancer, deploy_bot, got "autoscalar"',
        "oversight has no action restart",
        "that is no action (no action found)",
    ]


def test_every_seat_is_introduced_once() -> None:
    scenario = INCIDENT.scenario("incident/db_deadlock/easy/3")
    session, desk = Session(INCIDENT, scenario, "strict"), Script(*["noop"] * 5)
    with pytest.raises(EOFError):
        human.play(session, desk)
    assert desk.turns == [
        ("sre", True),
        ("oversight", True),
        ("dev", True),
        ("manager", True),
        ("sre", False),
        ("oversight", False),
    ]
    assert len(session.episode.steps) == 5


@pytest.mark.parametrize("environment", [INCIDENT, TOOLS, TOY], ids=lambda world: world.name)
def test_all_that_is_permitted_can_be_typed_in_both_spellings(environment: AnyEnvironment) -> None:
    rules = environment.rules("strict")
    for case in environment.cases:
        world = environment.start(case, rules)
        for role in environment.roles:
            view = environment.view(world, role)
            for action in [action for kind in environment.permitted(view) or () for action in kind]:
                for style in ("compact", "full"):
                    taken = human.read(environment, role, rules, view, environment.format_action(action, style))
                    assert not isinstance(taken, Refusal), (case, role, action)
                    if role == environment.acting(world):
                        assert environment.step(world, taken).action == environment.step(world, action).action


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("flag", "agent must be one of"),
        ("say", "message is empty"),
        ("say @boss hello", 'to must be one of sre, oversight, dev, manager, got "boss"'),
        ('{"action": "flag_rogue"}', "agent must be one of"),
        ('{"action": "noop", "now": 1}', "noop has no field now"),
        ('{"action": "resolve"}', "oversight has no action resolve"),
        ("x" * 20_000, "that is no action (longer than 16384 characters)"),
        ("\x1b[31m\x00", "that is no action"),
    ],
)
def test_a_refusal_says_what_is_wrong(line: str, why: str) -> None:
    found = read(INCIDENT, "oversight", line)
    assert isinstance(found, Refusal)
    assert why in found.why
    assert found.why.isprintable()


def test_free_text_and_figures_that_no_list_has_are_actions_too() -> None:
    assert read(INCIDENT, "oversight", "say @dev restart the db") == Communicate("restart the db", "dev")
    assert not isinstance(read(INCIDENT, "dev", "scale db 7"), Refusal)


def test_calls_are_typed_as_json_in_short_or_as_offers() -> None:
    call = Call("calculator", '{"expression":"2 * 3"}')
    assert read(TOOLS, "agent", '{"tool": "calculator", "arguments": {"expression": "2 * 3"}}') == call
    assert read(TOOLS, "agent", 'calculator {"expression": "2 * 3"}') == call
    for line, why in {
        "calculator 2 * 3": "arguments are no JSON object",
        'calculator {"expr": "2"}': "calculator needs expression",
        'calculator {"expression": "2", "digits": 3}': "calculator has no digits, it takes expression",
        'calculator {"expression": 2}': "expression must be text, got 2",
        '{"tool": "oracle", "arguments": {}}': "agent has no action oracle",
        "@read note": "not offered",
    }.items():
        found = read(TOOLS, "agent", line)
        assert isinstance(found, Refusal), line
        assert why in found.why


def test_an_action_that_is_over_is_left_to_the_world() -> None:
    """What may be said is checked, not what comes of it: to open a box twice is a person's own mistake."""
    assert read(TOY, "opener", "open red") == Open("red")
    assert not isinstance(read(TOY, "opener", "open red"), Unparsed)


@pytest.mark.parametrize("environment", [INCIDENT, TOOLS, TOY], ids=lambda world: world.name)
def test_help_names_every_form_and_everything_that_is_permitted(environment: AnyEnvironment) -> None:
    world = environment.start(environment.cases[0], environment.rules("strict"))
    for role in environment.roles:
        view = environment.view(world, role)
        text = "\n".join(human.help_lines(environment, role, "strict", view))
        for form in environment.forms(role, environment.rules("strict")):
            assert f"{form.name}(" in text
        for action in [action for kind in environment.permitted(view) or () for action in kind]:
            assert environment.format_action(action, "compact") in text


def test_what_an_offer_stands_for_is_shown_beside_it() -> None:
    world = TOOLS.start(TOOLS.cases[0], TOOLS.rules("strict"))
    view = TOOLS.view(world, "agent")
    lines = human.help_lines(TOOLS, "agent", "strict", view)
    (offer, *_), *_ = TOOLS.permitted(view) or ()
    assert f"  {offer.name}   {TOOLS.format_action(offer, 'full')}" in lines


def test_seats_are_read_in_turn_order() -> None:
    assert human.human_seats(INCIDENT, ["dev=human", "sre=human", "dev=human"]) == ("sre", "dev")
    for wrong, meant in {
        "dev": "dev",
        "dev=oracle": "dev",
        "dev=human=human": "dev",
        "boss=human": "manager",
        "=human": "manager",
    }.items():
        with pytest.raises(InputError, match=f"write {meant}=human"):
            human.human_seats(INCIDENT, [wrong])


def chosen(environment: AnyEnvironment, role: str, name: str, case: int = 0, **texts: str) -> object:
    rules = environment.rules("strict")
    view = environment.view(environment.start(environment.cases[case], rules), role)
    return human.chosen(environment, role, rules, view, name, texts)


def test_a_form_that_is_filled_in_is_the_action_of_its_line() -> None:
    assert chosen(INCIDENT, "oversight", "flag_rogue", agent="autoscaler") == FlagRogue("autoscaler")
    assert chosen(INCIDENT, "oversight", "communicate", message="a  b", to=" ") == Communicate("a b")
    assert chosen(INCIDENT, "dev", "scale", service="db", replicas=" 3 ") == read(INCIDENT, "dev", "scale db 3")
    assert chosen(TOOLS, "agent", "compare_values", value1="2", value2="two") == read(
        TOOLS, "agent", '{"tool": "compare_values", "arguments": {"value1": 2, "value2": "two"}}'
    )
    assert chosen(TOY, "guesser", "guess", prize="0.25") == read(TOY, "guesser", "guess 0.25")


@pytest.mark.parametrize(
    ("role", "name", "texts", "why"),
    [
        ("dev", "flag_rogue", {}, "dev has no action flag_rogue"),
        ("dev", "scale", {"service": "db"}, "scale needs replicas"),
        ("dev", "scale", {"service": "db", "replicas": "3.0"}, "replicas must be a whole number, got"),
        ("dev", "scale", {"service": "db", "replicas": "nan"}, "replicas must be a whole number, got"),
        ("dev", "scale", {"service": "none", "replicas": "3"}, "service must be one of auth"),
        ("dev", "restart", {"service": "db", "more": "x"}, "restart has no more"),
    ],
)
def test_a_form_that_is_no_action_says_why(role: str, name: str, texts: dict[str, str], why: str) -> None:
    found = chosen(INCIDENT, role, name, **texts)
    assert isinstance(found, Refusal)
    assert found.why.startswith(why)
