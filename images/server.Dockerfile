# Servers whose storage is in a store of objects: fl-server, and that store's client; neither operator nor framework.
# Built by `make images` from a folder of wheels; nothing is fetched from a package index.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
COPY . /wheels
RUN python3 -m venv /opt/fljob \
 && /opt/fljob/bin/python -m pip install --no-index --no-deps --no-compile --require-hashes \
      --find-links /wheels --requirement /wheels/requirements.txt \
 && /opt/fljob/bin/python -m pip uninstall --yes --quiet pip setuptools \
 && /opt/fljob/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/fljob/lib

FROM ${BASE}
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="FLJob server for a store of objects" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/fljob /opt/fljob
ENV PATH=/opt/fljob/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1
# That the client is there shows now, not when a job starts.
RUN fl-server --help > /dev/null && python3 -m fl_server.restore --help > /dev/null && python3 -c "import obstore"
USER 65532:65532
WORKDIR /tmp
CMD ["fl-server", "--help"]
