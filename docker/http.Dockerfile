# The HTTP server: stateless, no model, no torch. Built from the repository's root:
#   docker build -f docker/http.Dockerfile -t csm-http .

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# pip's own configuration decides where packages come from. To name an index: --build-arg PIP_INDEX=URL
ARG PIP_INDEX=

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

FROM ${PYTHON_IMAGE}
ARG PIP_INDEX
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin csm \
    && python -m venv --without-pip /opt/csm
# The lock, what nobody reads taken out again, and the bill of materials with each package's licence and its text: one
# layer, so that nothing is stored twice.
RUN --mount=type=bind,source=requirements/http.txt,target=/run/http.txt \
    --mount=type=bind,source=docker/prune.py,target=/run/prune.py \
    --mount=type=bind,from=tools,source=/opt/tools,target=/opt/tools \
    python -m pip --python /opt/csm/bin/python install --no-cache-dir --no-compile \
    ${PIP_INDEX:+--index-url "${PIP_INDEX}"} \
    --no-deps --requirement /run/http.txt \
    && python /run/prune.py /opt/csm \
    && mkdir /app \
    && /opt/tools/bin/python -m cyclonedx_py environment --gather-license-texts --output-reproducible \
    --output-file /app/sbom.cdx.json /opt/csm/bin/python
COPY --from=tools /build/stubs /app/stubs
COPY LICENSE THIRD_PARTY_NOTICES.md /app/
COPY csm_bundle /app/csm_bundle
COPY clients/python/csm_client /app/csm_client
COPY services /app/services
ENV PATH=/opt/csm/bin:$PATH \
    PYTHONPATH=/app:/app/stubs \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
# Bytecode of what a start imports: later the file system is read-only.
RUN --mount=type=bind,source=docker/warm.py,target=/run/warm.py \
    PYTHONDONTWRITEBYTECODE='' python /run/warm.py http
USER 10001:10001
EXPOSE 8000 9463
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=5)"]
ENTRYPOINT ["python", "-m", "services.http"]
