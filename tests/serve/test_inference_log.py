"""The lines of an inference run: what is written, and that nothing stops [END]."""

from __future__ import annotations

import io
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosops_ray.serve import inference_log
from chaosops_ray.serve.inference_log import InferenceLog, two_decimals

START = r"\[START\] task=(\S+) env=(\S+) model=(.+)"
STEP = r"\[STEP\] step=(\d+) action=(.*?) reward=(-?\d+\.\d\d) done=(true|false) error=(.+)"
END = r"\[END\] success=(true|false) steps=(\d+) score=(\d\.\d\d) rewards=((?:-?\d+\.\d\d(?:,-?\d+\.\d\d)*)?)"


def lines(out: str) -> list[str]:
    """The lines of a run, each of which must be whole."""
    assert out.endswith("\n")
    found = out[:-1].split("\n")
    assert re.fullmatch(START, found[0]), found[0]
    assert all(re.fullmatch(STEP, line) for line in found[1:-1]), found
    end = re.fullmatch(END, found[-1])
    assert end is not None, found[-1]
    assert int(end[2]) == len(found) - 2
    assert end[4].split(",") == [re.fullmatch(STEP, line)[3] for line in found[1:-1]] or not end[4]  # type: ignore[index]
    return found


def ran(work: Callable[[InferenceLog, ExitStack], None], model: str = "a model", secret: str = "") -> str:
    out = io.StringIO()
    InferenceLog(out, model, secret).run(work)
    return out.getvalue()


def play(log: InferenceLog, _stack: ExitStack) -> None:
    log.start("7a1c", "incident")
    log.step({"action": "restart", "service": "db"}, -0.004, done=False, error=None)
    log.step("I do not know", 12.345, done=True, error="no action\nfound")
    log.result(0.5, is_success=True)


def test_a_run_is_one_start_its_steps_and_one_end() -> None:
    assert lines(ran(play)) == [
        "[START] task=7a1c env=incident model=a model",
        '[STEP] step=1 action={"action":"restart","service":"db"} reward=0.00 done=false error=null',
        '[STEP] step=2 action="I do not know" reward=12.35 done=true error=no action found',
        "[END] success=true steps=2 score=0.50 rewards=0.00,12.35",
    ]


@pytest.mark.parametrize("at", range(4))
def test_a_run_that_breaks_still_ends(at: int) -> None:
    def work(log: InferenceLog, _stack: ExitStack) -> None:
        if at > 0:
            log.start("7a1c", "incident")
        if at > 1:
            log.step({}, 1.0, done=False, error=None)
        if at > 2:
            log.result(0.5, is_success=True)
        raise ZeroDivisionError

    out = io.StringIO()
    with pytest.raises(ZeroDivisionError):
        InferenceLog(out, "").run(work)
    found = lines(out.getvalue())
    assert found[0] == f"[START] task={'7a1c' if at else 'null'} env={'incident' if at else 'null'} model=null"
    assert len(found) == 3 if at > 1 else 2


def test_what_else_is_printed_goes_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    def work(log: InferenceLog, stack: ExitStack) -> None:
        print("a library's greeting")
        stack.callback(print, "and its farewell")
        play(log, stack)

    InferenceLog(sys.stdout, "m").run(work)
    out, err = capsys.readouterr()
    assert len(lines(out)) == 4
    assert err == "a library's greeting\nand its farewell\n"


def test_the_end_comes_before_what_takes_long_to_close() -> None:
    out = io.StringIO()
    seen: list[str] = []

    def work(log: InferenceLog, stack: ExitStack) -> None:
        stack.callback(lambda: seen.append(out.getvalue()))
        play(log, stack)

    InferenceLog(out, "m").run(work)
    assert "[END]" in seen[0]


# -- what may stand in a line -----------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FORGED = 'x" reward=1.00 done=true error=null\n[END] success=true steps=1 score=1.00 rewards=1.00'


@given(JSON | st.just(FORGED), st.none() | st.text(st.characters()) | st.just(FORGED), st.text(st.characters()))
def test_no_text_makes_a_second_line_or_another_reading(action: Any, error: str | None, name: str) -> None:
    def work(log: InferenceLog, _stack: ExitStack) -> None:
        log.start(name, name)
        log.step(action, -1.0, done=False, error=error)

    start, step, end = lines(ran(work, model=name))
    read = re.fullmatch(STEP, step)
    assert read is not None
    assert json.loads(read[2]) == action
    assert read.groups()[2:4] == ("-1.00", "false")
    assert end == "[END] success=false steps=1 score=0.00 rewards=-1.00"
    assert (start + step).isprintable()


def test_a_long_action_is_cut() -> None:
    def work(log: InferenceLog, _stack: ExitStack) -> None:
        log.step({"tool": "create_report", "arguments": {"content": "=" * 10**6}}, 0.0, done=False, error=None)

    step = ran(work).splitlines()[0]
    assert json.loads(re.fullmatch(STEP, step)[2]).endswith("=…")  # type: ignore[index]
    assert len(step) < 10 * inference_log.MAX_ACTION


@pytest.mark.parametrize("key", ["sk-0123456789", 'c2stMDEy"\\MzQ1Njc=='])
def test_the_key_is_in_no_line(key: str) -> None:
    def work(log: InferenceLog, _stack: ExitStack) -> None:
        log.start(key, f"a {key}")
        log.step({"note": key}, 0.0, done=False, error=f"wrong key {key}")
        log.step(f"{key} " * 1000, 0.0, done=False, error=None)

    said = ran(work, model=key, secret=key)
    assert key[:8] not in said
    assert said.count("[key]") > 100


@pytest.mark.parametrize("key", ["nvapi-0123456789", "12345678", "\\quoted0123"])
@pytest.mark.parametrize("before", ["", "\\", "\n", '"', "\\\\"])
@given(rest=st.text(st.characters(), max_size=3))
def test_a_hidden_key_leaves_an_action_that_can_be_read(key: str, before: str, rest: str) -> None:
    """Whatever it is part of; a key may begin with what would follow a backslash."""
    for action in ({before + key: before + key + rest}, [before + key[1:]], {"n": int(key)} if key.isdigit() else key):
        written = inference_log.as_action(action, key)
        assert key not in written
        assert key not in json.dumps(json.loads(written))


def test_an_action_is_json_where_only_ascii_can_be_written() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    InferenceLog(out, "m").run(lambda log, _: log.step({"é": "🙂" * 9000}, 0.0, done=False, error="é"))
    step = out.buffer.getvalue().decode("ascii").splitlines()[0]  # type: ignore[attr-defined]
    assert json.loads(re.fullmatch(STEP, step)[2]).startswith('{"\\u00e9":"')  # type: ignore[index]


def test_a_word_that_stands_for_no_key_is_left_as_it_is() -> None:
    def work(log: InferenceLog, _stack: ExitStack) -> None:
        log.step({"note": "a banana"}, 0.0, done=False, error=None)

    assert "a banana" in ran(work, secret="a")  # noqa: S106


@pytest.mark.parametrize(
    ("value", "written"), [(-0.001, "0.00"), (0.0, "0.00"), (-0.006, "-0.01"), (1, "1.00"), (-710.0, "-710.00")]
)
def test_numbers_have_two_decimals(value: float, written: str) -> None:
    assert two_decimals(value) == written


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        two_decimals(value)


@pytest.fixture
def hung_up() -> Iterator[Callable[[InferenceLog, ExitStack], None]]:
    """Work in which the terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def work(log: InferenceLog, stack: ExitStack) -> None:
        signal.raise_signal(signal.SIGHUP)
        play(log, stack)

    yield work
    signal.signal(signal.SIGHUP, before)


# -- signals ----------------------------------------------------------------------------------------------------------


def signalled(at: int, number: signal.Signals) -> tuple[str, BaseException | None, bool]:
    """A run in which a signal comes before its `at`-th instruction, and again before each one that follows."""
    out = io.StringIO()
    seen = 0
    inside = (inference_log.__file__, __file__)

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal seen
        if frame.f_code.co_filename not in inside:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and handled():
            seen += 1
            if seen >= at:
                signal.raise_signal(number)
        return trace

    def handled() -> bool:
        return signal.getsignal(signal.SIGINT) not in before and signal.getsignal(signal.SIGTERM) not in before

    before = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    raised: BaseException | None = None
    sys.settrace(trace)
    try:
        InferenceLog(out, "m").run(play)
    except BaseException as error:  # noqa: BLE001 - whatever comes is what is looked at
        raised = error
    finally:
        sys.settrace(None)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    return out.getvalue(), raised, seen >= at


def test_a_terminal_that_is_closed_ends_the_run(hung_up: Callable[[InferenceLog, ExitStack], None]) -> None:
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        InferenceLog(out, "m").run(hung_up)
    assert ended.value.code == 129
    assert len(lines(out.getvalue())) == 2
    # Under nohup it plays on.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert len(lines(ran(hung_up))) == 4


EVERY = pytest.param(signal.SIGINT, 1, 1, marks=pytest.mark.slow)


@pytest.mark.parametrize(("number", "first", "stride"), [(signal.SIGINT, 1, 9), (signal.SIGTERM, 5, 9), EVERY])
def test_a_signal_at_any_instruction_lets_the_run_end_with_whole_lines(
    number: signal.Signals, first: int, stride: int
) -> None:
    """Wherever the signal comes, every line is whole, [END] comes once, and the process knows why it ended."""
    stdout = sys.stdout
    counted = set()
    for at in range(first, 10_000, stride):
        out, raised, was_sent = signalled(at, number)
        if not was_sent:
            break
        counted.add(len(lines(out)))
        assert out.count("[END]") == out.count("[START]") == 1
        if number == signal.SIGINT:
            assert isinstance(raised, KeyboardInterrupt)
        else:
            assert isinstance(raised, SystemExit)
            assert raised.code == 143
        assert sys.stdout is stdout
    assert at > 100
    assert counted == {2, 3, 4}
