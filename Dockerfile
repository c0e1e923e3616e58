# One image for every process of Sentinel: the command decides which (see compose.yaml).
#
#   docker build -t key-ip-sentinel . && docker run --rm key-ip-sentinel --help
#
# It runs as nobody in particular (uid 10001), needs no capability and writes only below /var/lib/sentinel (records that
# wait for Redis: give the gateways a volume there), /tmp and /dev/shm, which every engine makes: the rest may be
# read-only.

FROM python:3.13-slim-trixie AS build
WORKDIR /src
RUN python -m venv /opt/sentinel && python -m venv /opt/build && mkdir -p /var/lib/sentinel
COPY requirements.txt requirements-dev.txt ./
# Every package by its hash; what builds the project itself comes from the other lock and stays in this stage.
RUN /opt/sentinel/bin/pip install --no-cache-dir --require-hashes --requirement requirements.txt
RUN awk '/^[a-z]/ {wanted = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/} wanted' \
        requirements-dev.txt > build-tools.txt \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --requirement build-tools.txt
COPY . .
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/sentinel/bin/pip install --no-cache-dir --no-deps dist/*.whl

FROM python:3.13-slim-trixie
COPY --from=build /opt/sentinel /opt/sentinel
COPY --from=build --chown=10001:10001 /var/lib/sentinel /var/lib/sentinel
ENV PATH=/opt/sentinel/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    SENTINEL_HOST=0.0.0.0 \
    SENTINEL_PORT=7000 \
    SENTINEL_EVENT_SPOOL_DIR=/var/lib/sentinel/spool
WORKDIR /var/lib/sentinel
USER 10001:10001
EXPOSE 7000
# For the processes that serve HTTP; the worker has none and switches it off.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['SENTINEL_PORT'] + '/health', timeout=4)"]
# No shell between the signal and the process: SIGTERM makes a gateway take leave in order.
ENTRYPOINT ["sentinel"]
CMD ["serve", "--plane", "proxy"]
