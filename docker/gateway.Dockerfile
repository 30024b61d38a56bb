# The gateway: stateless, no model, no torch. Built from the repository's root:
#   docker build -f docker/gateway.Dockerfile -t csm-gateway .

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# pip's own configuration decides where packages come from. To name an index: --build-arg PIP_INDEX=URL
ARG PIP_INDEX=

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

FROM ${PYTHON_IMAGE} AS packages
ARG PIP_INDEX
RUN python -m venv --without-pip /opt/csm
COPY requirements/gateway.txt /tmp/
RUN python -m pip --python /opt/csm/bin/python install --no-cache-dir ${PIP_INDEX:+--index-url "${PIP_INDEX}"} \
    --no-deps --requirement /tmp/gateway.txt
COPY docker/prune.py /tmp/
RUN python /tmp/prune.py /opt/csm
# The software bill of materials, with each package's licence and its text.
COPY --from=stubs /opt/bill /opt/bill
RUN /opt/bill/bin/cyclonedx-py environment --gather-license-texts --output-reproducible \
    --output-file /tmp/sbom.cdx.json /opt/csm/bin/python

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin csm \
    && install --directory --owner=10001 --group=10001 /var/lib/csm/keys /var/lib/csm/voices
COPY --from=packages /opt/csm /opt/csm
COPY --from=stubs /build/stubs /app/stubs
COPY --from=packages /tmp/sbom.cdx.json /app/
COPY LICENSE THIRD_PARTY_NOTICES.md docker/healthcheck.py /app/
COPY csm_bundle /app/csm_bundle
COPY services /app/services
ENV PATH=/opt/csm/bin:$PATH \
    PYTHONPATH=/app:/app/stubs \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    CSM_GATEWAY_CODE_SEALING_KEYRING=/var/lib/csm/keys/code_sealing.json \
    CSM_GATEWAY_VOICES_DATABASE=/var/lib/csm/voices/voices.sqlite
WORKDIR /app
USER 10001:10001
EXPOSE 50051 50052 9460
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["python", "/app/healthcheck.py", "50052", "readiness"]
ENTRYPOINT ["python", "-m", "services.gateway"]
