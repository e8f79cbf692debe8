# The server: SuperLink, SuperExec and the ServerApp. For amd64 and arm64; no GPU needed.
#   docker build -f docker/server.Dockerfile -t cosp-server .
FROM python:3.11.14-slim-bookworm

# Where a torch without CUDA comes from, which saves gigabytes.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN groupadd --gid 10001 cosp && useradd --uid 10001 --gid cosp --create-home cosp \
    && mkdir /state /runs /data && chown cosp:cosp /state /runs /data

WORKDIR /opt/cosp
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY cosp cosp
COPY devices devices
COPY flower flower
COPY experiments experiments
RUN python -m pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c constraints.txt --editable .

USER 10001:10001
ENV HOME=/tmp COSP_DATA_DIR=/data FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
VOLUME ["/state", "/runs"]
EXPOSE 8000
HEALTHCHECK --interval=30s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 8000), timeout=5)"]
ENTRYPOINT ["cosp", "server"]
CMD ["start", "--state", "/state", "--keys", "/run/secrets"]
