# The engine: backbone and depth decoder, on a GPU. Built from the repository's root:
#   docker build -f docker/engine.Dockerfile -t csm-engine .

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# pip's own configuration decides where packages come from. To name an index: --build-arg PIP_INDEX=URL, and for torch
# alone --build-arg TORCH_INDEX=URL (docs/images.md).
ARG PIP_INDEX=
ARG TORCH_INDEX=

# What makes the stubs and writes the bill of materials. It stays out of the image, and is the same for all of them.
FROM ${PYTHON_IMAGE} AS tools
ARG PIP_INDEX
WORKDIR /build
COPY requirements/dev.txt requirements/
RUN python -m venv --without-pip /opt/tools \
    && python -m pip --python /opt/tools/bin/python install --no-cache-dir --no-compile \
    ${PIP_INDEX:+--index-url "${PIP_INDEX}"} \
    --constraint requirements/dev.txt grpcio-tools==1.85.1 cyclonedx-bom==7.5.0
COPY protos protos
RUN mkdir stubs && find protos -name '*.proto' -exec \
    /opt/tools/bin/python -m grpc_tools.protoc -I protos --python_out=stubs --grpc_python_out=stubs {} +

# torch comes first and with its own dependencies, so that a machine gets the build that fits it; the rest is the lock.
# This layer is the same in engine and codec: it is built, stored and pulled once.
FROM ${PYTHON_IMAGE}
ARG PIP_INDEX
ARG TORCH_INDEX
RUN --mount=type=bind,source=docker/prune.py,target=/run/prune.py \
    index="${TORCH_INDEX:-${PIP_INDEX}}" \
    && useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin csm \
    && python -m venv --without-pip /opt/csm \
    && python -m pip --python /opt/csm/bin/python install --no-cache-dir --no-compile \
    ${index:+--index-url "${index}"} torch==2.13.0 \
    && python /run/prune.py /opt/csm
# Triton compiles the launchers of its kernels with the C compiler it finds; without a GPU nothing asks for one.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
# The lock, what nobody reads taken out again, and the bill of materials with each package's licence and its text: one
# layer, so that nothing is stored twice.
RUN --mount=type=bind,source=requirements/engine.txt,target=/run/engine.txt \
    --mount=type=bind,source=docker/prune.py,target=/run/prune.py \
    --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    python -m pip --python /opt/csm/bin/python install --no-cache-dir --no-compile \
    ${PIP_INDEX:+--index-url "${PIP_INDEX}"} \
    --no-deps --requirement /run/engine.txt \
    && python /run/prune.py /opt/csm \
    && mkdir /app \
    && /opt/tools/bin/python -m cyclonedx_py environment --gather-license-texts --output-reproducible \
    --output-file /app/sbom.cdx.json /opt/csm/bin/python \
    && install --directory --owner=10001 --group=10001 /var/lib/csm/huggingface
COPY --from=tools /build/stubs /app/stubs
COPY LICENSE THIRD_PARTY_NOTICES.md docker/healthcheck.py /app/
COPY bundles /app/bundles
COPY csm_bundle /app/csm_bundle
COPY csm_text /app/csm_text
COPY csm_engine /app/csm_engine
COPY services /app/services
ENV PATH=/opt/csm/bin:$PATH \
    PYTHONPATH=/app:/app/stubs \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/var/lib/csm/huggingface \
    TRITON_CACHE_DIR=/tmp/triton \
    NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /app
# Bytecode of what a start imports, and a CPU's kernels, compiled: later the file system is read-only.
RUN --mount=type=bind,source=docker/warm.py,target=/run/warm.py \
    PYTHONDONTWRITEBYTECODE='' NUMBA_CACHE_DIR=/app/csm_bundle/runtime/__kernels__ python /run/warm.py engine
USER 10001:10001
EXPOSE 50061 50071 9461
HEALTHCHECK --interval=10s --timeout=6s --start-period=15m --retries=3 \
    CMD ["python", "/app/healthcheck.py", "50071", "readiness"]
ENTRYPOINT ["python", "-m", "services.engine"]
