# Two targets. On a CPU:
#   docker build --target=cpu --tag=random_bases .
#   docker run --rm random_bases
# On an IPU, in an image that has the Poplar SDK with its TensorFlow 2.6, of Graphcore's for the machine's
# processor and SDK (docs/ipu.md):
#   docker build --target=ipu --tag=random_bases:ipu --build-arg=IPU_BASE=graphcore/tensorflow:2-intel .
#   gc-docker -- -ti --rm random_bases:ipu
ARG IPU_BASE=graphcore/tensorflow:2-intel

FROM python:3.12-slim AS wheel
WORKDIR /src
COPY setup.py pyproject.toml README.md LICENSE ./
COPY random_bases random_bases
RUN python3 -m pip wheel --no-cache-dir --no-deps --wheel-dir=/wheels .

# hadolint ignore=DL3006
FROM ${IPU_BASE} AS ipu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
COPY --from=wheel /wheels /wheels
COPY .ci/poplar_sdk_constraints.txt /wheels/
# What the SDK brings stays as it is, or the build fails.
RUN python3 -m pip freeze | grep -iE '^(tensorflow|keras|numpy|protobuf)' > /wheels/before.txt \
    && python3 -m pip install --no-cache-dir -c /wheels/poplar_sdk_constraints.txt "$(echo /wheels/*.whl)[experiments]" \
    && python3 -m pip freeze | grep -iE '^(tensorflow|keras|numpy|protobuf)' | diff /wheels/before.txt - \
    && useradd --create-home --uid=1000 researcher
USER 1000
WORKDIR /home/researcher
COPY experiments experiments
COPY scripts scripts
COPY configs configs
CMD ["python3", "-m", "random_bases.ipu_self_test"]

FROM python:3.12-slim AS cpu
COPY --from=wheel /wheels /wheels
RUN python3 -m pip install --no-cache-dir "$(echo /wheels/*.whl)[experiments]" \
    && useradd --create-home --uid=1000 researcher
USER 1000
WORKDIR /home/researcher
COPY experiments experiments
COPY scripts scripts
COPY configs configs
CMD ["python3", "scripts/quickstart.py"]
