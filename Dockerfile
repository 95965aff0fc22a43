# `soundflow serve` on a CPU. Build it here:          docker build -t soundflow .
# and serve a policy folder, with a key of your own:
#   docker run --init --read-only --tmpfs /tmp --stop-timeout 30 -p 8765:8765 --env SOUNDFLOW_API_KEY \
#     -v "$PWD/runs/quickstart/policy:/policy:ro" soundflow --allow-origin http://localhost:8765
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ENV UV_TORCH_BACKEND=cpu UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 VIRTUAL_ENV=/opt/soundflow
RUN pip install --no-cache-dir "uv>=0.8,<1" && uv venv "$VIRTUAL_ENV"
WORKDIR /src
COPY pyproject.toml constraints.txt ./
# Before the source, so that a change of it installs nothing anew.
RUN uv pip install --constraints constraints.txt --extra serve -r pyproject.toml
COPY README.md LICENSE ./
COPY envs envs
COPY policies policies
COPY trainers trainers
COPY configs configs
RUN uv pip install --no-deps .

FROM python:${PYTHON}-slim
RUN useradd --system --uid 10001 --no-create-home --home-dir /tmp soundflow
COPY --from=build /opt/soundflow /opt/soundflow
ENV PATH=/opt/soundflow/bin:$PATH PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1
USER 10001
WORKDIR /tmp
EXPOSE 8765
# SIGTERM lets replies end, for 10 s at most, and each client 5 s more to be told.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8765/healthz', timeout=4)"]
ENTRYPOINT ["soundflow", "serve", "--policy", "/policy", "--host", "0.0.0.0", "--port", "8765"]
