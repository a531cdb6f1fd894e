# t2tbuild with CUDA, for the Kubernetes examples: docker build -f examples/docker/cuda.Dockerfile -t REGISTRY/t2tbuild .
# The folder is the checkout. torch brings its CUDA libraries; the machine has only the driver and NVIDIA's container toolkit.
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir uv==0.9.0 && uv build --wheel --out-dir /wheels

FROM python:3.11-slim-bookworm
COPY --from=wheel /wheels /wheels
COPY constraints.txt /wheels/
RUN pip install --no-cache-dir --constraint /wheels/constraints.txt "$(echo /wheels/*.whl)[data,onnx,postgresql]" \
  && rm -r /wheels
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# Another user than root; the folder of runs is a volume.
RUN useradd --create-home --uid 1000 t2tbuild && mkdir /runs && chown t2tbuild /runs
USER 1000
WORKDIR /runs
ENV T2TBUILD_CACHE=/runs/.cache PYTHONUNBUFFERED=1
ENTRYPOINT []
CMD ["t2tbuild", "--help"]
