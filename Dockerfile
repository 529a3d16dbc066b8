# On a CPU:
#   docker build -t random_bases .
#   docker run --rm random_bases
# On an IPU, from an image that has the Poplar SDK with its TensorFlow 2.6 (see Graphcore's registry
# for the tag that fits the machine: intel or amd, and the SDK's version):
#   docker build -t random_bases:ipu --build-arg BASE=graphcore/tensorflow:2-intel .
#   gc-docker -- -ti --rm random_bases:ipu
ARG BASE=python:3.12-slim
FROM ${BASE}

WORKDIR /opt/random_bases
COPY . .

# An editable install needs pip 21.3, newer than that of Ubuntu 20.04. The constraints keep pip from
# replacing the SDK's TensorFlow, Keras and NumPy; they say nothing on a Python other than 3.8.
RUN python3 -m pip install --no-cache-dir --upgrade "pip>=22" && \
    python3 -m pip install --no-cache-dir -e . -c .ci/poplar_sdk_constraints.txt

CMD ["python3", "scripts/quickstart.py"]
