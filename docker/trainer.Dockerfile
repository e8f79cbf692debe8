# A board's trainer: torch, CUDA and the board's data, in whatever Python the board's torch is made for (>= 3.8).
# Nothing is installed into a base that brings a torch of its own: pip would replace NVIDIA's build by one without CUDA.
#   CPU (Raspberry Pi, PC):  docker build -f docker/trainer.Dockerfile -t cosp-trainer .
#   Jetson:                  docker build -f docker/trainer.Dockerfile --build-arg BASE=... -t cosp-trainer .
# docker/jetpack*.env names the BASE for each JetPack.
ARG BASE=python:3.11.14-slim-bookworm
# hadolint ignore=DL3006
FROM ${BASE}

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN groupadd --gid 10001 cosp && useradd --uid 10001 --gid cosp --create-home cosp \
    && mkdir /run/cosp && chown cosp:cosp /run/cosp

WORKDIR /opt/cosp
COPY constraints.txt ./
# Looked for and not imported: while an image is built, there is no driver to import it with.
RUN python3 -c "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is None)" \
    || python3 -m pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c constraints.txt torch numpy pillow
COPY cosp cosp

USER 10001:10001
ENV PYTHONPATH=/opt/cosp PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
HEALTHCHECK --interval=30s --start-period=120s --retries=3 \
    CMD ["python3", "-m", "cosp.trainer", "--health", "--socket", "/run/cosp/trainer.sock"]
ENTRYPOINT ["python3", "-m", "cosp.trainer", "--data", "/store", "--socket", "/run/cosp/trainer.sock"]
CMD []
