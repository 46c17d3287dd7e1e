"""The memory that a run needs: computed from the model's files, compared with the machine, and with what is measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from chaosops_ray import config
from chaosops_ray.cli import main
from chaosops_ray.config import ConfigError, Run
from chaosops_ray.learner import lora
from chaosops_ray.sim import environment_named
from chaosops_ray.training import footprint, launch, loop
from chaosops_ray.training.footprint import GIB, Machine, Need, UnknownError
from tests.support.cluster import CONFIGS, make, processes, ray_here, small_run
from tests.support.models import MODULES, small_model, tiny_base
from tests.support.tokenizers import chat_tokenizer, saved

INCIDENT = environment_named("incident")
MACHINE = Machine(16 * GIB)
GPU = Machine(64 * GIB, (80 * GIB,))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(small_model(tmp_path_factory.mktemp("model")), chat_tokenizer())


def claimed(folder: Path, layers: int, hidden: int, inner: int, pairs: int, vocabulary: int) -> Path:
    """A model of any size as its files describe it, without its weights: only headers are read. Heads are 128 wide."""
    saved(folder, chat_tokenizer())
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden)}
    matrices = {"q_proj": (hidden, hidden), "k_proj": (128 * pairs, hidden), "v_proj": (128 * pairs, hidden)}
    matrices |= {"o_proj": (hidden, hidden), "gate_proj": (inner, hidden), "up_proj": (inner, hidden)}
    matrices |= {"down_proj": (hidden, inner)}
    for layer in range(layers):
        shapes |= {f"model.layers.{layer}.{name}.weight": size for name, size in matrices.items()}
    header = json.dumps({"__metadata__": {"format": "pt"}} | {name: {"shape": size} for name, size in shapes.items()})
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode())
    described = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    described |= {"num_attention_heads": hidden // 128, "num_key_value_heads": pairs, "vocab_size": vocabulary}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def run_of(*settings: str, model: str = "tiny") -> Run:
    on_a_cpu = "resources={learner_gpus: 0, sampler_gpus: 0, context: 1024}"
    return config.load(CONFIGS / "3a.yaml", [f"model={model}", "sampler=torch", on_a_cpu, *settings])


def needs(model: Path, *settings: str, machine: Machine = MACHINE) -> dict[str, Need]:
    run = run_of(*settings, model=str(model))
    return {need.name: need for need in footprint.needs(run, INCIDENT, model, machine)}


def test_the_shape_is_that_of_the_model_and_of_the_adapter_that_peft_makes(model: Path) -> None:
    found = footprint.shape(model)
    loaded = Qwen2ForCausalLM.from_pretrained(model)
    assert found.parameters == sum([weight.numel() for weight in loaded.parameters()])
    assert (found.layers, found.hidden, found.heads, found.pairs, found.head) == (2, 32, 2, 1, 16)
    adapted = lora.with_adapter(loaded, 4, 8, 0)
    trained = sum([weight.numel() for weight in adapted.parameters() if weight.requires_grad])
    assert found.adapted == MODULES
    assert trained == 4 * found.sides


def test_weights_in_several_files_are_added_up_and_those_of_other_files_are_not(tmp_path: Path, model: Path) -> None:
    path = shutil.copytree(model, tmp_path / "sharded")
    Qwen2ForCausalLM.from_pretrained(model).save_pretrained(path, max_shard_size="20KB")
    assert (path / "model.safetensors.index.json").is_file()
    assert len(list(path.glob("*.safetensors"))) > 2
    assert footprint.shape(path) == footprint.shape(model)


def test_what_the_files_do_not_tell_is_not_guessed(tmp_path: Path, model: Path) -> None:
    described = json.loads((model / "config.json").read_text())
    path = shutil.copytree(model, tmp_path / "model")
    (path / "config.json").write_text(json.dumps({k: v for k, v in described.items() if k != "intermediate_size"}))
    with pytest.raises(UnknownError, match="has no intermediate_size"):
        footprint.shape(path)
    (path / "config.json").write_text(json.dumps(described))
    (path / "model.safetensors").write_bytes(b"\x05\0\0\0\0\0\0\0{nope")
    with pytest.raises(UnknownError, match="cannot be read"):
        footprint.shape(path)
    (path / "model.safetensors").unlink()
    with pytest.raises(UnknownError, match="no safetensors"):
        footprint.shape(path)


@pytest.mark.parametrize(
    ("process", "part", "less", "more"),
    [
        ("learner", "adapter and optimizer", "learner.lora_rank=8", "learner.lora_rank=16"),
        ("learner", "activations", "learner.tokens_per_forward=2048", "learner.tokens_per_forward=4096"),
        ("learner", "activations", "learner.checkpointing=true", "learner.checkpointing=false"),
        ("learner", "activations", "learner.steps=64", "learner.steps=1"),
        ("sampler", "keys and values", "batch.group=4", "batch.group=8"),
        ("sampler", "keys and values", "resources.context=512", "resources.context=1024"),
        ("sampler", "kept keys and values", "resources.cache_share=0.0001", "resources.cache_share=0.001"),
        ("sampler", "adapters", "schedule=lockstep", "schedule=pipelined"),
        ("driver", "transcripts", "batch.scenarios=4", "batch.scenarios=8"),
    ],
)
def test_each_setting_that_an_error_names_changes_its_part(
    model: Path, process: str, part: str, less: str, more: str
) -> None:
    assert needs(model, less)[process].memory[part] < needs(model, more)[process].memory[part]


def test_actions_to_choose_among_count_beside_the_context(model: Path) -> None:
    """A row has them behind its transcript, and so it may be longer than any transcript."""
    tight = ("resources.context=512", "learner.tokens_per_forward=512", "batch={scenarios: 2, group: 2, refill: 0}")
    single, whole = (
        needs(model, "rollout.structured=choices", f"rollout.max_tokens={most}", "style=full", *tight)
        for most in (2, 96)
    )
    run = run_of("rollout.structured=choices", "rollout.max_tokens=96", "style=full", *tight)
    found = footprint.trees_of(run, INCIDENT, footprint.known(model))
    assert 0 < found.turn < found.row
    of_a_token = single["learner"].memory["activations"] / 512
    assert whole["learner"].memory["activations"] == pytest.approx(of_a_token * (512 + found.row))
    of_a_row = single["sampler"].memory["keys and values"] / 512
    # Those of the prompts are there twice while the actions are scored.
    assert whole["sampler"].memory["keys and values"] == pytest.approx(of_a_row * (2 * 512 + found.turn))


def test_what_decides_about_checkpointing_adds_up_to_the_need_without_and_with_it(model: Path) -> None:
    for settings in ((), ("resources.learner_gpus=1",)):
        on_gpu = bool(settings)
        whole = {
            given: needs(model, f"learner.checkpointing={given}", *settings)["learner"] for given in ("true", "false")
        }
        sizes = {given: sum((need.gpu or need.memory).values()) for given, need in whole.items()}
        run = run_of("learner.checkpointing=auto", f"model={model}", *settings)
        found = footprint.estimate(run, INCIDENT, model)
        assert found is not None
        assert found.rest + found.layers * found.again == sizes["true"]
        assert found.rest + found.layers * found.kept == sizes["false"]
        assert (found.room is None) == on_gpu, "only the learner sees its GPU"


def test_nothing_is_estimated_where_checkpointing_is_configured_or_the_files_tell_too_little(
    model: Path, tmp_path: Path
) -> None:
    assert footprint.estimate(run_of("learner.checkpointing=true", f"model={model}"), INCIDENT, model) is None
    assert footprint.estimate(run_of("learner.checkpointing=auto"), INCIDENT, tmp_path) is None


def test_every_part_has_a_remedy_except_the_libraries(model: Path) -> None:
    for engine in ("torch", "vllm"):
        for need in needs(model, f"sampler={engine}").values():
            assert {*need.memory} - {*footprint.REMEDIES} == {"libraries"}


def test_on_a_gpu_weights_take_two_bytes_and_the_host_needs_little(model: Path) -> None:
    found = needs(model, "resources.learner_gpus=0.5", "resources.sampler_gpus=0.5", machine=GPU)
    parameters = footprint.shape(model).parameters
    assert found["learner"].gpu["weights"] == found["sampler"].gpu["weights"] == 2 * parameters
    assert "activations" not in found["learner"].memory
    assert needs(model)["learner"].memory["weights"] == 4 * parameters
    assert not needs(model)["learner"].gpu


def test_the_learner_of_a_gpu_is_said_to_take_a_little_more_than_was_measured(tmp_path: Path) -> None:
    """docs/benchmarks.md: 12.6 GiB on an H100 and on an H200, by the allocator of torch, for the shape of Qwen2.5-3B."""
    path = claimed(tmp_path, 36, 2048, 11008, 2, 151_936)
    assert 3.0e9 < footprint.shape(path).parameters < 3.1e9
    run = config.load(
        CONFIGS / "3a.yaml", [f"model={path}", "learner={tokens_per_forward: 16384, checkpointing: true}"]
    )
    (learner,) = [need for need in footprint.needs(run, INCIDENT, path, GPU) if need.name == "learner"]
    assert 12.6 <= (sum(learner.gpu.values()) - learner.gpu["libraries"]) / GIB <= 1.2 * 12.6


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "[]"),
        ("config.json", '{"num_attention_heads": 0, "hidden_size": 8, "num_hidden_layers": 1}'),
        ("config.json", "{"),
        ("model.safetensors", "\xff" * 16),
        ("model.safetensors", "\x02\0\0\0\0\0\0\0[]"),
        ("model.safetensors", ""),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", None),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, model: Path, name: str, content: str | None) -> None:
    path = Path(shutil.copytree(model, tmp_path / "model"))
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(UnknownError) as unknown:
        needs(path)
    assert str(path) in str(unknown.value)
    footprint.check_here(run_of(model=str(path)), INCIDENT, path)  # loading it will tell


# -- what cannot fit -----------------------------------------------------------------------------------------------------


def parts(name: str, count: int = 1, gpu: dict[str, int] | None = None, **memory: int) -> Need:
    return Need(name, count, {part.replace("_", " "): size for part, size in memory.items()}, gpu or {})


FOUND = [
    parts("driver", libraries=GIB),
    parts("learner", libraries=GIB, weights=GIB, activations=4 * GIB),
    parts("sampler", libraries=GIB, weights=GIB, kept_keys_and_values=2 * GIB),
    parts("shard", 2, libraries=GIB),
]


def test_a_run_that_fits_is_let_through_and_one_byte_less_is_too_few() -> None:
    run = run_of()
    whole = int(sum([need.processes * need.each for need in FOUND]) + footprint.RAY)
    enough = int(whole / footprint.USABLE) + 2
    footprint.check_machine(run, FOUND, Machine(enough))
    with pytest.raises(ConfigError) as refused:
        footprint.check_machine(run, FOUND, Machine(enough - 4))
    assert str(refused.value) == (
        "memory: the run needs 13.6 GiB and this machine permits 13.6 GiB; lower learner.tokens_per_forward, or set "
        "learner.checkpointing to true (activations take 4.0 GiB)"
    )


@pytest.mark.parametrize(
    ("found", "remedy"),
    [
        ([parts("shard", 20, libraries=GIB)], "lower rollout.shards (all but one of them take 19.0 GiB)"),
        ([parts("learner", weights=20 * GIB)], "use a smaller model (weights take 20.0 GiB)"),
        ([parts("sampler", kept_keys_and_values=20 * GIB)], "lower resources.cache_share (kept"),
    ],
)
def test_the_remedy_is_about_the_largest_part(found: list[Need], remedy: str) -> None:
    with pytest.raises(ConfigError) as refused:
        footprint.check_machine(run_of(), found, MACHINE)
    assert remedy in str(refused.value)


def node(gib: float, stored: float = 0.0) -> dict[str, float]:
    return {"CPU": 4.0, "memory": gib * GIB, "object_store_memory": stored * GIB}


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node(6), node(6)], None),
        ([node(4, 2), node(4, 2)], None),
        ([node(5), node(5), node(5)], "a learner needs 6.0 GiB and the cluster's largest node has 5.0 GiB"),
        ([node(6), node(5)], "the run's actors need 12.0 GiB and the cluster's nodes have 11.0 GiB together"),
    ],
)
def test_on_a_cluster_each_actor_must_fit_a_node_and_all_of_them_the_nodes(
    nodes: list[dict[str, float]], words: str | None
) -> None:
    """The driver is not among them: it may run elsewhere."""
    if words is None:
        footprint.check_nodes(run_of(), FOUND, nodes)
        return
    with pytest.raises(ConfigError, match=r"activations take 4\.0 GiB") as refused:
        footprint.check_nodes(run_of(), FOUND, nodes)
    assert words in str(refused.value)
    footprint.check_nodes(run_of("resources.wait=60"), FOUND, nodes)  # a cluster that grows


@pytest.mark.parametrize(
    ("settings", "sizes", "words"),
    [
        ((), (30, 30), None),
        ((), (50, 10), None),  # on a GPU each
        ((), (81, 10), "the learner needs 81.0 GiB of a GPU (activations 81.0 GiB) and this machine's have 80.0 GiB"),
        (
            ("resources={learner_gpus: 0.5, sampler_gpus: 0.5}",),
            (50, 40),
            "learner and sampler together need 90.0 GiB",
        ),
        (("resources={learner_gpus: 0.5, sampler_gpus: 0.5, colocate: true}",), (50, 40), None),
        (
            ("resources={learner_gpus: 0.5, sampler_gpus: 0.25, samplers: 2}",),
            (30, 26),
            "learner and samplers together",
        ),
        (("resources={learner_gpus: 1, sampler_gpus: 0.5, samplers: 3}",), (70, 41), "2 samplers need 82.0 GiB"),
        (("resources={learner_gpus: 1, sampler_gpus: 0.5, samplers: 1}",), (70, 79), None),
        (("resources={learner_gpus: 0, sampler_gpus: 1}",), (0, 81), "a sampler needs 81.0 GiB"),
        (
            ("resources={learner_gpus: 0.2, sampler_gpus: 0.2, samplers: 4, colocate: true}",),
            (50, 21),
            "learner and samplers in turns need 84.0 GiB",
        ),
        (("sampler=vllm",), (10, 49), "raise resources.memory_share"),  # of 80, .6 is 48
        (
            ("sampler=vllm", "resources={learner_gpus: 0.5, sampler_gpus: 0.5}"),
            (33, 10),
            "learner and sampler together need",
        ),
    ],
)
def test_on_a_gpu_those_that_share_it_must_fit_together(
    settings: tuple[str, ...], sizes: tuple[int, int], words: str | None
) -> None:
    learner, sampler = {"activations": sizes[0] * GIB}, {"kept keys and values": sizes[1] * GIB}
    found = [parts("learner", gpu=learner, libraries=GIB), parts("sampler", gpu=sampler, libraries=GIB)]
    run = config.load(CONFIGS / "3a.yaml", ["model=some/model", "sampler=torch", *settings])
    if words is None:
        footprint.check_machine(run, found, GPU)
        return
    with pytest.raises(ConfigError) as refused:
        footprint.check_machine(run, found, GPU)
    assert words in str(refused.value)


# -- on the command line ------------------------------------------------------------------------------------------------

CPU = ("--set", "sampler=torch", "--set", "resources={learner_gpus: 0, sampler_gpus: 0}")


@pytest.mark.parametrize("explain", [True, False])
def test_a_run_that_cannot_fit_is_refused_in_one_line_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, explain: bool
) -> None:
    """70 billion weights of four bytes fit no machine that runs tests; there is no weight to load in this folder."""
    path, out = claimed(tmp_path / "model", 80, 8192, 28672, 8, 128_000), tmp_path / "run"
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray was started"))
    given = ["train", str(CONFIGS / "3a.yaml"), "--set", f"model={path}", *CPU, "--out", str(out)]
    assert main([*given, *(["--explain"] if explain else [])]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "memory: the run needs" in said.err
    assert "this machine permits" in said.err
    assert "; use a smaller model (weights take 517.8 GiB)" in said.err
    assert ("  learner: " in said.out) == explain
    assert not out.exists()


def test_explain_says_what_each_actor_needs(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_base()
    assert main(["train", str(CONFIGS / "3a.yaml"), "--set", "model=tiny", "--explain"]) == 0
    lines = capsys.readouterr().out.partition("\nmemory:\n")[2].splitlines()
    assert [line.split(":")[0].strip() for line in lines] == [
        "driver", "learner", "sampler", "2 shard(s)", "together, with 650 MiB for Ray", "this machine permits",
    ]  # fmt: skip


def test_explain_says_so_of_a_model_that_is_not_on_disk_yet(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAOSOPS_CACHE", str(tmp_path))
    assert main(["train", str(CONFIGS / "3a.yaml"), "--set", "model=some/model", "--explain"]) == 0
    assert "unknown until some/model is on this machine: it is downloaded" in capsys.readouterr().out
    assert main(["train", str(CONFIGS / "3a.yaml"), "--set", "model=tiny", "--explain"]) == 0
    assert "unknown until tiny is on this machine: it is made" in capsys.readouterr().out


def test_the_published_models_are_known_without_their_files(tmp_path: Path) -> None:
    counts = {name.split("-")[1]: one.parameters for name, one in footprint.PUBLISHED.items()}
    assert counts == {"1.5B": 1_543_714_304, "3B": 3_085_938_688, "7B": 7_615_616_512}
    described = footprint.shape(claimed(tmp_path, 36, 2048, 11008, 2, 151_936))
    of_3b = footprint.PUBLISHED["Qwen/Qwen2.5-3B-Instruct"]
    # The claimed model has neither norms nor biases.
    assert described == of_3b._replace(parameters=described.parameters)
    assert 0 < of_3b.parameters - described.parameters < 1e6


def test_a_learner_that_sleeps_keeps_its_weights_beside_the_engine() -> None:
    run = config.load(
        CONFIGS / "3a.yaml",
        [
            "model=some/model",
            "sampler=torch",
            "resources={learner_gpus: 0.5, sampler_gpus: 0.5, colocate: true}",
        ],
    )
    learner = {"weights": 30 * GIB, "activations": 20 * GIB}
    sampler = {"weights": 5 * GIB, "kept keys and values": 40 * GIB}
    found = [parts("learner", gpu=learner, libraries=GIB), parts("sampler", gpu=sampler, libraries=GIB)]
    footprint.check_gpus(run, found, 75 * GIB, "it has")
    with pytest.raises(ConfigError, match="in turns need 75"):
        footprint.check_gpus(run, found, 75 * GIB - 1, "it has")


@pytest.mark.cluster
@pytest.mark.slow
def test_on_a_real_cluster_the_nodes_of_ray_are_the_limit(tmp_path: Path) -> None:
    path = claimed(tmp_path, 80, 8192, 28672, 8, 128_000)
    base = tiny_base().path
    with ray_here():
        launch.check_memory(run_of("batch={scenarios: 2, group: 4}"), INCIDENT, base, "auto")
        with pytest.raises(ConfigError, match=r"a learner needs .* and the cluster's largest node has"):
            launch.check_memory(run_of(model=str(path)), INCIDENT, path, "auto")


# -- measured -----------------------------------------------------------------------------------------------------------


def peak(process: psutil.Process) -> int:
    """The most resident memory that a process has had, as Linux counts it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def peaks(path: Path, run: Run) -> tuple[dict[str, int], dict[str, int]]:
    """The peaks of the processes of a run after its last update, and what each needs by the estimate."""
    measured: dict[str, int] = {}

    def look(_row: dict[str, Any]) -> None:
        for name, actor in (("learner", "LearnerHost"), ("sampler", "SamplerHost"), ("shard", "Shard")):
            measured[name] = max([peak(process) for process in processes(actor)])

    with ray_here():
        training = make(path, run)
        loop.train(training, look)
        machine = footprint.here()
    found = footprint.needs(run, training.environment, training.base.path, machine)
    return measured, {need.name: need.each for need in found}


@pytest.mark.cluster
@pytest.mark.slow
def test_the_tiny_run_takes_no_more_than_is_said(tmp_path: Path) -> None:
    measured, said = peaks(tmp_path / "run", small_run("updates=2"))
    for name, size in measured.items():
        assert size <= said[name], name
    assert said["learner"] <= 1.5 * measured["learner"]


@pytest.mark.cluster
@pytest.mark.slow
def test_a_model_of_a_hundred_million_weights_takes_what_is_said_and_at_least_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "model"
    tiny = tiny_base()
    path.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny.path / name, path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = Qwen2Config(
            vocab_size=8192,
            hidden_size=768,
            intermediate_size=2048,
            num_hidden_layers=14,
            num_attention_heads=12,
            num_key_value_heads=4,
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            eos_token_id=None,
            bos_token_id=None,
        )
        Qwen2ForCausalLM(shape).save_pretrained(path)
    assert 1e8 < footprint.shape(path).parameters < 1.1e8
    run = config.load(
        CONFIGS / "3a.yaml",
        [
            f"model={path}",
            "style=compact",
            "sampler=torch",
            "updates=1",
            "curriculum=hard:1",
            "batch={scenarios: 2, group: 2, refill: 0}",
            "rollout={shards: 1, max_tokens: 2, structured: true}",
            "learner={lora_rank: 16, checkpointing: false, recompute: false, tokens_per_forward: 2048}",
            "resources={learner_gpus: 0, sampler_gpus: 0, context: 256, learner_threads: 1, cache_share: 0.01}",
        ],
    )
    measured, said = peaks(tmp_path / "run", run)
    print({name: (size >> 20, said[name] >> 20) for name, size in measured.items()})
    for name in ("learner", "sampler"):
        assert measured[name] <= said[name] <= 2 * measured[name], name
    assert measured["shard"] <= said["shard"]
