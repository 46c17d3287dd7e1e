"""A seat reads what is new to it and acts by what was said; in text, in messages and in tokens alike."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from chaosops_ray.agents import seat as seats
from chaosops_ray.agents.seat import ChatSeat, Seat
from chaosops_ray.agents.token_seat import TokenSeat, choices
from chaosops_ray.agents.tokens import Codec
from chaosops_ray.sim import ENVIRONMENTS
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.training import pretrained
from chaosops_ray.wire import Ids, Sample
from tests.support.tokenizers import chat_tokenizer, saved

INCIDENT = ENVIRONMENTS["incident"]
TOOLS = ENVIRONMENTS["tools"]
NOOP = '{"action": "noop"}'


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    tokenizer = chat_tokenizer()
    return Codec(saved(tmp_path_factory.mktemp("chat"), tokenizer), pretrained.layout(tokenizer))


def views(role: str, rules: str = "strict") -> Iterator[Any]:
    """What a role sees of an incident in which nobody does anything."""
    world = INCIDENT.start(INCIDENT.scenario("incident/cascade/hard/3"), rules)
    while (acting := INCIDENT.acting(world)) is not None:
        if acting == role:
            yield INCIDENT.view(world, role)
        world = INCIDENT.step(world, INCIDENT.parse_action(NOOP)).world


def noop(codec: Codec) -> Sample:
    tokens = codec.action(NOOP)
    return Sample(tokens, (-1.0,) * len(tokens), 7, "digest", stopped=True)


def test_the_example_of_the_module_is_true() -> None:
    assert doctest.testmod(seats).attempted > 5
    assert doctest.testmod(seats).failed == 0


def test_a_seat_reads_everything_once_and_then_what_is_new() -> None:
    seat, before = Seat(INCIDENT, "dev", "strict", "compact"), None
    assert seat.system_prompt == INCIDENT.system_prompt("dev", "strict", "compact")
    for view in list(views("dev"))[:4]:
        assert seat.read(view) == INCIDENT.render(view, before, "compact")
        assert seat.view == view
        before = view


def test_what_was_said_is_the_action_that_it_spells() -> None:
    seat = Seat(INCIDENT, "dev", "strict", "full")
    assert seat.action(NOOP) == INCIDENT.parse_action(NOOP)
    assert "unparsed" in INCIDENT.dump_action(seat.action("what?"))


def test_the_three_kinds_of_seat_hold_one_conversation(codec: Codec) -> None:
    """The same texts, as messages and as tokens; and the same actions."""
    plain = Seat(INCIDENT, "sre", "strict", "full")
    chat, token = ChatSeat(INCIDENT, "sre", "strict"), TokenSeat(INCIDENT, "sre", "strict", "full", codec)
    texts = [plain.system_prompt]
    for view in list(views("sre"))[:3]:
        texts.append(plain.read(view))
        messages, request = chat.ask(view), token.request(view, row=2, seed=5)
        assert [message["content"] for message in messages] == texts
        assert (request.row, request.seed, request.choices) == (2, 5, None)
        read = codec.decode(request.prompt)
        places = [read.index(text) for text in texts[:2]]
        assert places == sorted(places)
        assert texts[-1] in read
        assert chat.answer(NOOP) == token.answer(noop(codec)) == INCIDENT.parse_action(NOOP)
        texts.append(NOOP)
    assert [message["role"] for message in chat.messages] == ["system", *["user", "assistant"] * 3]
    assert [token.tokens[turn.start : turn.end] for turn in token.turns] == [codec.action(NOOP)] * 3


def test_a_turn_of_tokens_is_credited_and_remembers_who_spoke(codec: Codec) -> None:
    seat = TokenSeat(INCIDENT, "sre", "strict", "full", codec)
    assert (seat.tokens, seat.turns) == ((), ())
    prompt = seat.observe(next(views("sre")))
    seat.answer(noop(codec))
    seat.earned({"team": 1.0})
    seat.earned({"team": 0.5})
    (turn,) = seat.turns
    assert (turn.start, turn.version, turn.digest, turn.rewards) == (len(prompt), 7, "digest", {"team": 1.5})


def test_a_structured_seat_asks_for_what_its_view_permits(codec: Codec) -> None:
    """And its turn says what it could have been."""

    class Narrow:
        """A world that permits less than the incident room, depending on the view."""

        def __getattr__(self, name: str) -> Any:
            return getattr(INCIDENT, name)

        def permitted(self, view: Any) -> Any:
            return (INCIDENT.permitted(view) or ())[: self.width]

        width = 1

    world = Narrow()
    seat = TokenSeat(world, "sre", "strict", "full", codec, structured="choices")  # type: ignore[arg-type]
    asked: list[tuple[Ids, ...]] = []
    for width, view in zip((1, 2), views("sre"), strict=False):
        world.width = width
        request = seat.request(view)
        kinds = world.permitted(view)  # type: ignore[arg-type]
        assert kinds is not None
        assert request.choices == tuple([codec.action(INCIDENT.format_action(a, "full")) for k in kinds for a in k])
        assert request.choices is not None
        asked.append(request.choices)
        seat.answer(Sample(request.choices[0], (0.0,) * len(request.choices[0]), 7, "digest", stopped=True))
    seat.observe(next(views("sre")))
    seat.answer(noop(codec))
    assert [turn.choices for turn in seat.turns] == [*asked, None]
    assert len(asked[0]) < len(asked[1])


def test_what_cannot_be_written_out_is_free(codec: Codec) -> None:
    world = TOOLS.start(TOOLS.scenario("tools/E07/published/3"), "strict")
    view = TOOLS.view(world, "agent")._replace(question="What is this?")
    assert choices(TOOLS, codec, view, "full") is None
    assert TokenSeat(TOOLS, "agent", "strict", "full", codec, structured="choices").request(view).choices is None


@pytest.mark.parametrize("style", ["full", "compact"])
def test_what_is_chosen_by_name_or_in_full_is_the_same_call(codec: Codec, style: Style) -> None:
    """In full a choice is the call itself; in short it is a name that only the step can make out."""
    world = TOOLS.start(TOOLS.scenario("tools/E07/published/3"), "strict")
    seat = TokenSeat(TOOLS, "agent", "strict", style, codec, structured="choices")
    while TOOLS.acting(world):
        view = TOOLS.view(world, "agent")
        request = seat.request(view)
        offers = [offer for kind in TOOLS.permitted(view) for offer in kind]
        assert request.choices is not None
        assert len(request.choices) == len(offers)
        place = len(offers) - 1 if world.step > 2 else world.step
        tokens = request.choices[place]
        taken = TOOLS.step(world, seat.answer(Sample(tokens, (0.0,) * len(tokens), 7, "digest", stopped=True)))
        assert taken.action == offers[place].call
        world = taken.world
    assert world.answer is not None


class Up(NamedTuple):
    """An action with an argument."""

    by: int


class Down(NamedTuple):
    """Another one. As tuples, equal arguments make them equal."""

    by: int


def test_choices_are_made_once_for_equal_actions_and_never_shared_by_others(codec: Codec) -> None:
    """By value: a world may hand out the same actions again and again."""

    def spell(action: Any, style: str) -> str:
        return f"{style} {type(action).__name__} {action.by}"

    first = codec.choices(spell, "full", ((Up(1), Up(2)),))
    assert codec.choices(spell, "full", ((Up(1), Up(2)),)) is first
    assert [codec.decode(tokens[:-1]) for tokens in first] == ["full Up 1", "full Up 2"]
    for style, kinds in (("full", ((Down(1), Down(2)),)), ("compact", ((Up(1), Up(2)),)), ("full", ((Up(2), Up(1)),))):
        assert codec.choices(spell, style, kinds) == tuple(  # type: ignore[arg-type]
            [codec.action(spell(action, style)) for kind in kinds for action in kind]
        )


@pytest.mark.parametrize("environment", [INCIDENT, TOOLS], ids=lambda environment: environment.name)
def test_seats_of_one_role_share_nothing(environment: AnyEnvironment) -> None:
    role = environment.roles[0]
    one, other = ChatSeat(environment, role, "strict"), ChatSeat(environment, role, "strict")
    scenario = environment.scenarios(environment.selections[0], [0])[0]
    view = environment.view(environment.start(scenario, "strict"), role)
    one.ask(view)
    assert len(other.messages) == 1
    assert other.ask(view)[-1] == one.messages[-1]


def test_a_bad_style_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="style"):
        Seat(INCIDENT, "sre", "strict", "terse")  # type: ignore[arg-type]
