"""Models small enough for tests: of random weights, with adapters in PEFT's own format or a tokenizer for chats."""

from __future__ import annotations

import fcntl
import os
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from chaosops_ray.config import ConfigError
from chaosops_ray.learner.adapter import adapter_files
from chaosops_ray.sim.contract import AnyEnvironment, Style
from chaosops_ray.store import versions
from chaosops_ray.store.received import cache_folder
from chaosops_ray.training import base_models, smollm2, tiny
from chaosops_ray.wire import PolicyVersion
from scripts.tools import REQUIRED
from tests.support.tokenizers import trained_tokenizer

VOCABULARY = 64
# Two layers of seven linear modules each; the head stays out.
MODULES = 14


def small_model(folder: Path, seed: int = 0) -> Path:
    """A model of some ten thousand weights, saved in the folder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=VOCABULARY,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=256,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=None,
                # Weights of the usual .02 would make every token as likely as the next, whatever the adapter.
                initializer_range=0.2,
            )
        )
    model.save_pretrained(folder)
    return folder


def chat_model(folder: Path, environment: AnyEnvironment, rules: str, style: Style, seed: int = 0) -> Path:
    """A Llama of random weights that reads any text, saved with a trained tokenizer and a chat template.

    It is large enough that an adapter alone can teach it a format.
    """
    texts: list[str] = []
    for number in range(30):
        scenario = tiny.scenario(environment, tiny.Recipe(), number)
        for conversation in tiny.conversations(environment, rules, scenario):
            texts.append(environment.system_prompt(conversation.role, rules, style))
            texts += [text for turn in conversation.turns for text in (turn.text, turn.action)]
    tokenizer = trained_tokenizer(texts, 500)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=128,
                intermediate_size=384,
                num_hidden_layers=2,
                num_attention_heads=2,
                num_key_value_heads=1,
                max_position_embeddings=1024,
                tie_word_embeddings=False,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                # With the usual .02, the random head would leave no token far more likely than another.
                initializer_range=0.2,
            )
        )
    model.save_pretrained(folder)
    return folder


def small_peft(model_path: Path, seed: int, scale: float, rank: int = 4) -> PeftModel:
    """The model with an adapter whose B is random with this standard deviation; 0 leaves the base's answers as they are."""
    base = AutoModelForCausalLM.from_pretrained(model_path)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            # PEFT 0.21 asks transformers 5.13 and later for an attribute that has a new name there.
            warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
            model = get_peft_model(base, config)
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                weight.data.normal_(0, scale)
    assert isinstance(model, PeftModel)
    return model.eval()


def small_adapter(folder: Path, model_path: Path, seed: int, scale: float) -> Path:
    """Such an adapter in PEFT's own format, saved in the folder."""
    model = small_peft(model_path, seed, scale)
    # Nothing is looked up on the hub for a model card.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def publish(model: PeftModel, adapters: Path, number: int, base: str, base_name: str) -> PolicyVersion:
    """Publish the model's adapter, as learner and driver do together."""
    return versions.publish(adapters, number, base, adapter_files(model, base_name))


@cache
def tiny_base() -> base_models.BaseModel:
    """The tiny model, from the user's cache; where it is not there yet, one test process builds it and others wait."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return base_models.prepare("tiny")


def made_smollm2() -> Path:
    """The folder of smollm2; where its packages cannot be installed, the test is skipped."""
    try:
        return base_models.prepare("smollm2").path
    except ConfigError as error:
        if smollm2.INSTALL not in str(error):
            raise
        (pytest.fail if os.environ.get(REQUIRED) else pytest.skip)(str(error))
