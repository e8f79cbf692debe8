# A board's SuperNode and ClientApp, which hand every task to the trainer. The same image for every board and JetPack,
# because there is neither torch nor CUDA in it. For arm64 and amd64.
#   docker build -f docker/node.Dockerfile -t cosp-node .
FROM python:3.11.14-slim-bookworm

RUN groupadd --gid 10001 cosp && useradd --uid 10001 --gid cosp --create-home cosp \
    && mkdir /run/cosp && chown cosp:cosp /run/cosp

WORKDIR /opt/cosp
COPY constraints.txt docker/node.lock ./
# Of what cosp depends on, only what a board's side imports, each file by its hash: no torch.
RUN python -m pip install --no-cache-dir -c constraints.txt --require-hashes -r node.lock
COPY cosp cosp
COPY devices devices

USER 10001:10001
ENV PYTHONPATH=/opt/cosp PYTHONDONTWRITEBYTECODE=1 HOME=/tmp FLWR_HOME=/tmp/flwr \
    FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
# The SuperNode's own door, at which the ClientApp finds it.
HEALTHCHECK --interval=30s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 9094), timeout=5)"]
ENTRYPOINT ["python", "-m", "cosp.cli", "client"]
CMD ["--help"]
