# Workers of one learning framework: fl-worker, and the framework that the wheels hold.
# Built by `make images` from a folder of wheels; nothing is fetched from a package index.
# A program that needs more: write `FROM fljob-worker-paddle:VERSION` and install it, as root, into /opt/fljob.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
COPY . /wheels
RUN python3 -m venv /opt/fljob \
 && /opt/fljob/bin/python -m pip install --no-index --no-deps --no-compile --require-hashes \
      --find-links /wheels --requirement /wheels/requirements.txt \
 && /opt/fljob/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/fljob/lib

FROM ${BASE}
ARG FRAMEWORK=paddle
ARG VERSION=0.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="FLJob worker for ${FRAMEWORK}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# Debian packages that the framework's wheels expect of the system; a BASE that has them needs no network here.
ARG PACKAGES=""
RUN if [ -n "${PACKAGES}" ] && ! dpkg --status ${PACKAGES} > /dev/null 2>&1; then \
      apt-get update && apt-get install --yes --no-install-recommends ${PACKAGES} && rm -rf /var/lib/apt/lists/*; \
    fi
COPY --from=build /opt/fljob /opt/fljob
ENV PATH=/opt/fljob/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OMP_NUM_THREADS=1
# That everything the framework loads is there shows now, not when a job starts.
RUN python -c "import importlib; importlib.import_module('fl_worker.backends.${FRAMEWORK}')"
USER 65532:65532
WORKDIR /tmp
CMD ["fl-worker", "--help"]
