# t2tbuild without a GPU: docker build -f examples/docker/cpu.Dockerfile -t t2tbuild:cpu .
# The folder is the checkout; constraints.txt has the versions that were tested together, except torch's build for CPUs.
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir uv==0.9.0 && uv build --wheel --out-dir /wheels

FROM python:3.11-slim-bookworm
COPY --from=wheel /wheels /wheels
COPY constraints.txt /wheels/
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN grep -vE '^(nvidia|cuda|triton)' /wheels/constraints.txt > /wheels/cpu.txt \
  && pip install --no-cache-dir --constraint /wheels/cpu.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu \
    torch==2.15.0+cpu torchvision==0.29.2+cpu "$(echo /wheels/*.whl)[onnx,postgresql]" \
  && rm -r /wheels

# Another user than root; the folder of runs is a volume.
RUN useradd --create-home --uid 1000 t2tbuild && mkdir /runs && chown t2tbuild /runs
USER 1000
WORKDIR /runs
ENV T2TBUILD_CACHE=/runs/.cache PYTHONUNBUFFERED=1
ENTRYPOINT []
CMD ["t2tbuild", "--help"]
