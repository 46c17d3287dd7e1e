"""Who may import whom, what `sim` may not touch, and what importing it costs."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "chaosops_ray"
MODULES = sorted(PACKAGE.rglob("*.py"))

# For each room of the package (and for a single module in it, where the longest matching path counts): which other
# rooms it may import, and which libraries beside the standard one. A room that is not listed fails, so that a new one
# has to be thought about.
RULES: dict[str, tuple[set[str], set[str]]] = {
    "": (set(), set()),
    "sim": (set(), set()),
    "spans": (set(), set()),
    "wire": ({"spans"}, set()),
    "choice_tree": ({"wire"}, set()),
    "process_environment": (set(), set()),
    "plain_text": (set(), set()),
    # What engines and the learner must do alike, and nothing else.
    "grammar": (set(), {"numpy", "tokenizers"}),
    "config": ({"plain_text"}, {"pydantic", "yaml"}),
    "resampling": ({"sim"}, {"numpy"}),
    "twins": ({"sim", "resampling"}, {"numpy"}),
    "evaluate": ({"sim", "wire", "resampling", "twins"}, {"numpy"}),
    "agents": ({"sim", "wire", "plain_text"}, {"httpx", "tokenizers"}),
    "store": ({"sim", "spans", "wire", "plain_text"}, {"pyarrow"}),
    "transfer": ({"store", "wire"}, {"ray"}),
    # Not ray: the table and the documents that are made from it need none.
    "telemetry": ({"plain_text", "store"}, set()),
    "workers": (
        {
            "sim",
            "spans",
            "wire",
            "choice_tree",
            "grammar",
            "plain_text",
            "config",
            "agents",
            "store",
            "telemetry",
            "transfer",
        },
        {"ray"},
    ),
    "learner": (
        {"spans", "wire", "choice_tree", "grammar", "config", "process_environment", "store", "telemetry", "transfer"},
        {"torch", "transformers", "peft", "trl", "datasets", "safetensors", "ray"},
    ),
    # Not ray, not torch: whoever looks at a run needs neither.
    "reports": (
        {"", "sim", "spans", "wire", "plain_text", "config", "resampling", "twins", "evaluate", "agents", "store"},
        {"jinja2", "markupsafe", "matplotlib", "numpy", "rich"},
    ),
    "training": (
        {
            "",
            "sim",
            "spans",
            "wire",
            "grammar",
            "plain_text",
            "config",
            "resampling",
            "evaluate",
            "process_environment",
            "agents",
            "workers",
            "learner",
            "store",
            "telemetry",
            "transfer",
            "reports",
        },
        {"huggingface_hub", "ray", "rich", "tokenizers", "torch", "transformers", "yaml"},
    ),
    # aiohttp is what Ray's client follows a log with, and what it raises.
    "sweeps": (
        {
            "sim",
            "plain_text",
            "config",
            "resampling",
            "evaluate",
            "process_environment",
            "workers",
            "store",
            "reports",
            "training",
        },
        {"aiohttp", "numpy", "pydantic", "ray", "rich", "yaml"},
    ),
    # Leaves: only the command line imports them.
    "integrations": (
        {"", "sim", "wire", "plain_text", "config", "resampling", "evaluate", "agents", "store"},
        {"numpy", "gymnasium", "pettingzoo", "pydantic"},
    ),
    # Nothing else imports openenv, whose import takes seconds.
    "serve": (
        {"", "sim", "wire", "plain_text", "config", "agents", "store", "reports", "telemetry"},
        {"fastapi", "jinja2", "openenv", "pydantic", "pydantic_core", "starlette", "uvicorn", "websockets"},
    ),
    "cli": (
        {
            "",
            "sim",
            "plain_text",
            "agents",
            "evaluate",
            "process_environment",
            "serve",
            "workers",
            "store",
            "reports",
            "training",
            "sweeps",
            "integrations",
        },
        {"rich"},
    ),
}
# Libraries that a single module may import beside those of its room.
MORE = {
    "chaosops_ray/integrations/inspect_log.py": {"inspect_ai"},
    "chaosops_ray/integrations/rllib/environment.py": {"ray"},
    "chaosops_ray/integrations/rllib/module.py": {"ray", "torch"},
    "chaosops_ray/integrations/rllib/network.py": {"torch"},
    "chaosops_ray/integrations/rllib/policy.py": {"torch", "safetensors"},
    "chaosops_ray/integrations/rllib/training.py": {"ray", "torch"},
    "chaosops_ray/reports/model_card.py": {"huggingface_hub", "yaml"},
    "chaosops_ray/telemetry/prometheus.py": {"ray"},
    "chaosops_ray/training/gguf_model.py": {"gguf", "numpy", "safetensors"},
    "chaosops_ray/telemetry/wandb.py": {"wandb"},
    "chaosops_ray/training/warm_up.py": {"safetensors"},
    "chaosops_ray/workers/samplers/torch.py": {"torch", "transformers", "peft", "safetensors"},
    "chaosops_ray/workers/samplers/vllm.py": {"torch", "vllm"},
}
# The worlds never know each other; only the list of worlds knows all.
WORLDS = ("incident", "tools", "fleet")
FORBIDDEN_IN_SIM = {"uuid", "time", "secrets", "os", "threading", "socket", "tempfile"}
# Dates can be worked with; only these read the machine's clock or its time zone.
READS_THE_CLOCK = {"now", "today", "utcnow", "fromtimestamp", "utcfromtimestamp", "astimezone"}


def part_of(module: Path) -> str:
    relative = module.relative_to(PACKAGE).with_suffix("")
    return "" if relative.name == "__init__" and len(relative.parts) == 1 else relative.parts[0]


def imports(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            # `from package import name` may name a module; both readings are looked at.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def named(module: Path) -> str:
    return str(module.relative_to(ROOT))


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_imports_follow_the_design(module: Path) -> None:
    part = part_of(module)
    assert part in RULES, f"chaosops_ray/{part} has no import rule yet; add one to RULES"
    own, libraries = RULES[part]
    for name in imports(module):
        top, _, rest = name.partition(".")
        if top == "chaosops_ray":
            target = rest.split(".")[0]
            target = target if (PACKAGE / target).exists() or (PACKAGE / f"{target}.py").exists() else ""
            assert target in own or target == part, f"{named(module)} imports chaosops_ray.{target}"
        else:
            allowed = libraries | MORE.get(named(module), set())
            assert top in sys.stdlib_module_names or top in allowed, f"{named(module)} imports {top}"


def test_the_docs_table_has_these_rules() -> None:
    rows = re.findall(
        r"^\| `(\w+)(?:/|\.py)` \| .* \| (.*) \|$", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE
    )
    assert {room for room, _ in rows} == RULES.keys() - {""}
    for room, imported in rows:
        if imported not in ("everything", "all of the above"):
            assert set(imported.replace("–", "").split(", ")) - {""} == RULES[room][0] - {""}, room


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_imports_are_deferred_in_the_cli_alone(module: Path) -> None:
    if module.name == "cli.py":
        return
    for outer in ast.walk(ast.parse(module.read_text())):
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef):
            assert not [node for node in ast.walk(outer) if isinstance(node, ast.Import | ast.ImportFrom)]


SIM = [module for module in MODULES if part_of(module) == "sim"]


@pytest.mark.parametrize("module", SIM, ids=named)
def test_the_worlds_never_know_each_other(module: Path) -> None:
    """Nor does what lies below them, such as the weather, know a world."""
    inside = module.relative_to(PACKAGE / "sim").parts[0]
    if inside == "worlds.py":
        return
    for name in imports(module):
        for world in WORLDS:
            assert world == inside or not name.startswith(f"chaosops_ray.sim.{world}")


@pytest.mark.parametrize("module", SIM, ids=named)
def test_sim_has_no_clock_no_identity_and_no_global_randomness(module: Path) -> None:
    tree = ast.parse(module.read_text())
    for name in imports(module):
        assert name.split(".")[0] not in FORBIDDEN_IN_SIM
        assert not name.startswith("random."), "import random itself, and use only random.Random(seed)"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            assert node.attr == "Random", f"random.{node.attr} draws from a generator that everybody shares"
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("date", "datetime")
        ):
            assert node.attr not in READS_THE_CLOCK
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("hash", "id", "open", "eval", "exec", "input", "print", "__import__")
            if node.func.id == "Random":
                assert node.args


# A clock that a person or a server sets back or forward: nothing may wait by it, or order or name anything by it.
# All waits and durations are taken from time.monotonic.
WALL_CLOCK = {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime", "st_mtime", "st_mtime_ns", "st_ctime"}


def reads_the_wall_clock(code: str) -> bool:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            return True  # under another name it would not be recognized
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in WALL_CLOCK and (owner == "time" or node.attr.startswith("st_")):
                return True
            if node.attr in READS_THE_CLOCK and owner in ("datetime", "date"):
                return True
    return False


# The one module that reads it, for stamps that other programs expect on what they are sent.
STAMPS = "chaosops_ray/telemetry/clock.py"


@pytest.mark.parametrize("module", [one for one in MODULES if named(one) != STAMPS], ids=named)
def test_a_clock_that_jumps_changes_nothing(module: Path) -> None:
    assert not reads_the_wall_clock(module.read_text())


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_only_what_others_are_sent_is_stamped(module: Path) -> None:
    if part_of(module) != "telemetry":
        assert not [name for name in imports(module) if name.startswith("chaosops_ray.telemetry.clock")]


@pytest.mark.parametrize(
    "code",
    ["time.time()", "datetime.now()", "date.today()", "from time import time", "path.stat().st_mtime", "time.ctime()"],
)
def test_a_reading_of_the_wall_clock_is_recognized(code: str) -> None:
    assert reads_the_wall_clock(code)
    assert not reads_the_wall_clock("time.monotonic(); time.sleep(1); run.time; given.today()")


def is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.BinOp):
        return is_set(node.left) or is_set(node.right)
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return called and node.func.id in ("set", "frozenset")  # type: ignore[attr-defined]


def ordered_by(node: ast.AST) -> list[ast.expr]:
    """The expressions whose order the node takes over."""
    if isinstance(node, ast.For):
        return [node.iter]
    if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
        return [generator.iter for generator in node.generators]
    if isinstance(node, ast.Starred):
        return [node.value]
    if isinstance(node, ast.Call):
        function = node.func
        takes_order = (
            isinstance(function, ast.Name) and function.id in ("list", "tuple", "iter", "enumerate", "zip")
        ) or (isinstance(function, ast.Attribute) and function.attr in ("join", "extend", "pop"))
        return list(node.args) if takes_order else []
    return []


@pytest.mark.parametrize("module", SIM, ids=named)
def test_sim_never_takes_its_order_from_a_set(module: Path) -> None:
    """What can be seen in the syntax; that nothing else does either is what the runs with other hash seeds show."""
    tree = ast.parse(module.read_text())
    sets = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_set(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        for source in ordered_by(node):
            named_set = isinstance(source, ast.Name) and source.id in sets
            outcome = isinstance(source, ast.Attribute) and source.attr == "outcome"
            by_a_set = is_set(source) or named_set or outcome
            assert not by_a_set, f"{named(module)}:{source.lineno} orders by a set"


def test_the_set_test_can_fail() -> None:
    for text in ("for x in {1, 2}: pass", "list(set(a))", "[x for x in frozenset(a)]", "','.join({'a'} | b)"):
        assert any(is_set(source) for node in ast.walk(ast.parse(text)) for source in ordered_by(node)), text


# What gives a file its final name, or makes it safe: once, in the store.
NAMING = {
    "os": {"replace", "rename", "renames", "link", "symlink", "fsync", "fdatasync", "open", "mkfifo"},
    "tempfile": {"mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile"},
    "shutil": {"move"},
}
WRITERS = {"write_text", "write_bytes", "touch", "symlink_to", "hardlink_to"}
# The store's own, which yield a place to write to that takes its name later.
ATOMIC = {"atomic_file", "atomic_folder", "checkpoint"}
# By module and function, what writes otherwise.
WRITES = {
    ("chaosops_ray/cli.py", "_discard_stdout"): "stdout is led to /dev/null after its reader has gone, or without room",
    ("chaosops_ray/cli.py", "main"): "what would go to a closed stdout or stderr goes to /dev/null",
}


def called(node: ast.Call) -> tuple[str, str]:
    """What is called, as (module or object, name); the first is empty where it is no plain name."""
    match node.func:
        case ast.Name(id=name):
            return "", name
        case ast.Attribute(value=ast.Name(id=owner), attr=name):
            return owner, name
        case ast.Attribute(attr=name):
            return "", name
    return "", ""


def opens_to_write(node: ast.Call) -> bool:
    """`open(path, mode)` or `path.open(mode)`, with a mode that is not known to be one of reading."""
    owner, name = called(node)
    if name != "open" or owner == "os":
        return False
    place = 1 if isinstance(node.func, ast.Name) or owner in ("io", "codecs", "gzip") else 0
    modes = [*node.args[place : place + 1], *[keyword.value for keyword in node.keywords if keyword.arg == "mode"]]
    return any(not isinstance(mode, ast.Constant) or set(str(mode.value)) & set("wax+") for mode in modes)


def is_of(node: ast.expr, names: set[str]) -> bool:
    """One of these names, or a path below it."""
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        node = node.left
    return isinstance(node, ast.Name) and node.id in names


def atomic_names(tree: ast.AST) -> set[str]:
    """The names that the store's context managers are bound to."""
    return {
        item.optional_vars.id
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
        if isinstance(item.optional_vars, ast.Name)
        and isinstance(item.context_expr, ast.Call)
        and called(item.context_expr)[1] in ATOMIC
    }


def scopes(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Each function with its name, and what stands outside of functions."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    yield from [(function.name, function) for function in functions]
    outside = [
        node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    yield "", ast.Module(body=outside, type_ignores=[])


def writes(tree: ast.Module) -> Iterator[tuple[str, int, str]]:
    """Function, line and name of each call that writes to disk past the store."""
    for function, scope in scopes(tree):
        filled = atomic_names(scope)
        for node in ast.walk(scope):
            if not isinstance(node, ast.Call):
                continue
            owner, name = called(node)
            method = isinstance(node.func, ast.Attribute)
            # str.replace takes two arguments, Path.replace one.
            renames = name == "rename" or (name == "replace" and len(node.args) + len(node.keywords) == 1)
            if name in NAMING.get(owner, ()) or (method and renames):
                yield function, node.lineno, f"{owner}.{name}"
            elif (method and name in WRITERS and owner != "files") or opens_to_write(node):
                target = node.func.value if isinstance(node.func, ast.Attribute) else node.args[0]
                if not is_of(target, filled):
                    yield function, node.lineno, name


def naming_imports(tree: ast.AST) -> list[str]:
    """Names that would be called without their module, past the rule above."""
    return [
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name in NAMING.get(node.module or "", ())
    ]


OUTSIDE = [module for module in MODULES if part_of(module) != "store"]


@pytest.mark.parametrize("module", OUTSIDE, ids=named)
def test_only_the_store_writes_to_disk(module: Path) -> None:
    """As far as the syntax shows it. What libraries write (torch.save, save_pretrained, savefig) it does not show."""
    tree = ast.parse(module.read_text())
    assert not naming_imports(tree)
    for function, line, call in writes(tree):
        assert (named(module), function) in WRITES, f"{named(module)}:{line} calls {call}; use chaosops_ray.store.files"


def test_every_exception_to_the_disk_s_rule_is_needed() -> None:
    found = {(named(module), function) for module in OUTSIDE for function, *_ in writes(ast.parse(module.read_text()))}
    assert WRITES.keys() <= found


@pytest.mark.parametrize(
    "call",
    [
        "os.replace(a, b)",
        "os.rename(a, b)",
        "os.fsync(1)",
        "os.open(a, os.O_RDONLY)",
        "tempfile.mkdtemp()",
        "shutil.move(a, b)",
        "path.replace(other)",
        "path.rename(other)",
        "(path / 'x').rename(target=other)",
        "path.write_text('x')",
        "path.with_name('x').write_bytes(b'x')",
        "open(path, 'w')",
        "open(path, mode='ab')",
        "open(path, mode)",
        "path.open('x')",
        "(path / 'x').open(mode='r+')",
        "path.touch()",
    ],
)
def test_the_disk_test_can_fail(call: str) -> None:
    assert list(writes(ast.parse(call))), call
    assert list(writes(ast.parse(f"def f():\n    {call}"))), call
    inside = ast.parse(f"def f():\n    with atomic_folder(x) as other_path:\n        {call}")
    assert list(writes(inside)), call


@pytest.mark.parametrize(
    "text",
    [
        "with atomic_file(a) as path: path.write_text('x')",
        "with files.atomic_folder(a, replace=False) as path: (path / 'b' / 'c').write_bytes(b'x')",
        "with run.checkpoint(1) as path: open(path / 'b', 'w')",
        "text.replace('a', 'b')",
        "row._replace(a=1)",
        "dataclasses.replace(row, a=1)",
        "open(path)",
        "path.open('rb')",
        "files.write_text(path, 'x')",
        "open(path, encoding='utf-8')",
    ],
)
def test_the_disk_test_can_pass(text: str) -> None:
    assert not list(writes(ast.parse(f"def f():\n    {text}")))


def test_names_without_their_module_do_not_pass_the_disk_test() -> None:
    assert naming_imports(ast.parse("from os import replace, path")) == ["os.replace"]


HEAVY = ("ray", "torch", "pydantic", "numpy", "pyarrow", "rich", "matplotlib", "yaml")
PROBE = """
import json, sys, time
began = time.process_time()
import chaosops_ray.sim
spent = time.process_time() - began
assert chaosops_ray.sim.ENVIRONMENTS["incident"].scenarios("published")
loaded = [name for name in %r if name in sys.modules]
# Not getrusage: its maximum counts the parent that this process was forked from.
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")]
megabytes = int(peak) / 1024
print(json.dumps({"seconds": spent, "megabytes": megabytes, "loaded": loaded}))
"""


def test_importing_sim_is_cheap() -> None:
    """Under .3 s of this process's own time, under 40 MB, with none of the heavy libraries; the best of three."""
    found = []
    for _ in range(3):
        ran = subprocess.run(
            [sys.executable, "-c", PROBE % (HEAVY,)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        found.append(json.loads(ran.stdout))
    assert found[0]["loaded"] == []
    assert min(probe["seconds"] for probe in found) < 0.3
    assert min(probe["megabytes"] for probe in found) < 40


def test_no_module_is_a_drawer_for_odds_and_ends() -> None:
    assert not [module for module in MODULES if module.stem in ("utils", "util", "helpers", "common", "misc")]
