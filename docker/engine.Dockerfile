# The engine: backbone and depth decoder, on a GPU. Built from the repository's root:
#   docker build -f docker/engine.Dockerfile -t csm-engine .

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# pip's own configuration decides where packages come from. To name an index: --build-arg PIP_INDEX=URL, and for torch
# alone --build-arg TORCH_INDEX=URL (docs/deploy.md).
ARG PIP_INDEX=
ARG TORCH_INDEX=

FROM ${PYTHON_IMAGE} AS stubs
ARG PIP_INDEX
WORKDIR /build
COPY requirements/dev.txt requirements/
RUN pip install --no-cache-dir ${PIP_INDEX:+--index-url "${PIP_INDEX}"} \
    --constraint requirements/dev.txt grpcio-tools==1.85.1
# What writes the bill of materials; like the maker of the stubs it stays out of the image.
RUN python -m venv /opt/bill \
    && /opt/bill/bin/pip install --no-cache-dir ${PIP_INDEX:+--index-url "${PIP_INDEX}"} \
    --constraint requirements/dev.txt cyclonedx-bom==7.5.0
COPY protos protos
RUN mkdir stubs && find protos -name '*.proto' -exec \
    python -m grpc_tools.protoc -I protos --python_out=stubs --grpc_python_out=stubs {} +

# torch comes first and with its own dependencies, so that a machine gets the build that fits it; the rest is the lock.
FROM ${PYTHON_IMAGE} AS packages
ARG PIP_INDEX
ARG TORCH_INDEX
RUN index="${TORCH_INDEX:-${PIP_INDEX}}" \
    && python -m venv --without-pip /opt/csm \
    && python -m pip --python /opt/csm/bin/python install --no-cache-dir ${index:+--index-url "${index}"} torch==2.13.0
COPY requirements/engine.txt /tmp/
RUN python -m pip --python /opt/csm/bin/python install --no-cache-dir ${PIP_INDEX:+--index-url "${PIP_INDEX}"} \
    --no-deps --requirement /tmp/engine.txt
COPY docker/prune.py /tmp/
RUN python /tmp/prune.py /opt/csm
# The software bill of materials, with each package's licence and its text.
COPY --from=stubs /opt/bill /opt/bill
RUN /opt/bill/bin/cyclonedx-py environment --gather-license-texts --output-reproducible \
    --output-file /tmp/sbom.cdx.json /opt/csm/bin/python

FROM ${PYTHON_IMAGE}
# Triton compiles the launchers of its kernels with the C compiler it finds; without a GPU nothing asks for one.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin csm \
    && install --directory --owner=10001 --group=10001 /var/lib/csm/huggingface
COPY --from=packages /opt/csm /opt/csm
COPY --from=stubs /build/stubs /app/stubs
COPY --from=packages /tmp/sbom.cdx.json /app/
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
    TRITON_CACHE_DIR=/tmp/triton
WORKDIR /app
USER 10001:10001
EXPOSE 50061 50071 9461
HEALTHCHECK --interval=10s --timeout=6s --start-period=15m --retries=3 \
    CMD ["python", "/app/healthcheck.py", "50071", "readiness"]
ENTRYPOINT ["python", "-m", "services.engine"]
