# Generation and training on CPUs: docker build -t wavenet . ; the commands are those of README:
#   docker run --rm -v "$PWD:/work" wavenet wavenet-generate output=speech.wav
FROM python:3.12-slim
COPY . /src
# CPU wheels of torch: the default ones bring 5 GB of CUDA.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu '/src[train,hub]' \
    && rm -rf /src
WORKDIR /work
CMD ["wavenet-train", "--help"]
