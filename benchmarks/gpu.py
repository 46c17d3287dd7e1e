"""The package on one GPU, in four parts that each end within four minutes.

    python -m benchmarks.gpu [--parts a,b,c,d] [--limit 225] [--json FILE] [--model FOLDER] [--device cuda]

    a  the learner: tokens a second, share of the device's peak, memory, by shape of model, rank, rows, checkpointing
    b  a version's way from the learner to the sampler: export, publish, load, proof
    c  the embedded sampler: tokens a second, by size of cohort, free and structured
    d  a whole run without Ray: whether two runs from one seed agree, and whether the reward rises

Models have the shape of a real one and random weights; nothing is fetched. Only part d takes a real model, from a
folder given by --model. It needs torch, transformers, peft, trl, safetensors, numpy, pydantic and pyyaml with what
these need, and this package's source; no Ray, no vllm, no pyarrow. `--device cpu --shape tiny` runs everything anywhere
in a minute or two. Parts are kept apart: one that fails or runs out of time leaves the others as they are.

Model FLOPs utilization (mfu) is the arithmetic that a training step of a LoRA needs, by the seconds and by the peak:

    flops = tokens x (4 N + 6 A) + written x 4 H V + attention          mfu = flops / seconds / peak
    attention = layers x 6 x width x sum over rows of length x (length + 1)

N are the weights of the frozen linear layers below the head: 2 N forward and 2 N for gradients of activations; the 2 N
for gradients of weights fall away, and only the A weights of the adapter have theirs. The head, H x V, is computed where
something was written. Attention is counted causally, a token with itself and those before it: two products forward and
four backward, of 2 x width operations for each pair; width is heads x width of a head. What checkpointing or the
attention's kernel computes again is not counted, and neither is padding. `mfu_without_attention` is the count of
earlier versions of this benchmark. The peak is the device's dense bf16 rate by its name.

The JSON, which is written whole after every case:

    {"schema": "gpu-benchmark/1",
     "parts": {"a": {"began": "2026-01-31T12:00:00Z", "seconds": 180.2, "limit": 225, "finished": true,
                     "left_out": [], "error": null, "settings": {...}}, ...},
     "cases": [{...}, ...]}

A later run replaces the cases of the same name, card and device, and the entries of the parts that it ran; all others
stay. `left_out` names the cases for which there was no time. Each case is flat and stands alone. All have

    part, name, card ("NVIDIA H100 80GB HBM3"; "cpu"), card_memory_bytes, driver, versions {torch, transformers, peft,
    trl}, shape ("3b", "1.5b", "0.5b", "smollm2", "tiny", or a model's folder name), parameters, rank, seconds (of what
    the case is about: an update; a synchronization; all completions; all updates), tokens_per_second,
    peak_memory_bytes, mfu, checkpointing, skipped (null, or why nothing was measured; figures are then null)

    a: rows ("incident", "tools", "4k", "former"), lengths {rows, tokens, written, shortest, median, longest},
       tokens_per_forward, padding, settings {what the learner was told beyond these}, scoring_seconds, kl_seconds,
       flops_per_token, mfu_without_attention, needed_bytes (estimated), free_bytes, runs
    b: export_seconds, publish_seconds, load_seconds, proof_seconds, adapter_bytes, decisive, runs;
       load is that of the sampler, proof the scores of the learner and of the sampler
    c: completions ("free", "structured"), cohort, prompt, turns, written, read_tokens_per_second; tokens_per_second
       are the written ones
    d: kind ("run", "repeat"), world, seats, style, updates, and of a run: reward_first, reward_last, rise, held_out
       {before, after, rise} (each {mean, interval, episodes}), seconds_by {collect, update, publish, adopt}; of a repeat:
       same (true or false), digests of both

Figures that a case does not have are null. Seconds are medians where `runs` says how many; memory is the peak of
the case as PyTorch's allocator counts it, on a CPU the resident memory of the process.
"""
