# Images that train and that serve, of the versions in constraints.txt:
#   docker build --target train --tag tabstep-train .
#   docker build --target serve --tag tabstep-serve .
# A package index gives PyTorch in its CUDA build, which runs without a GPU too. Its CPU build, a fraction of the size,
# comes from the index that --build-arg TORCH_INDEX=URL names.

FROM python:3.12-slim AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/tmp
RUN useradd --create-home --uid 1000 tabstep \
    && install --directory --owner=tabstep --group=tabstep /work

FROM base AS build
ARG TORCH_INDEX=
ENV PIP_CONSTRAINT=/source/constraints.txt \
    PIP_BUILD_CONSTRAINT=/source/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /source
COPY constraints.txt ./
# PyTorch comes before the source, which changes more often.
RUN python -m venv /opt/venv \
    && pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml README.md LICENSE ./
COPY conf conf/
COPY src src/
RUN pip install .

FROM build AS build-train
RUN pip install ".[onnx,report,sweep,tensorboard]" && pip check

FROM build AS build-serve
RUN pip install ".[serve]" && pip check

FROM base AS train
COPY --from=build-train /opt/venv /opt/venv
USER tabstep
WORKDIR /work
ENTRYPOINT ["tabstep"]
CMD ["train"]

FROM base AS serve
COPY --from=build-serve /opt/venv /opt/venv
USER tabstep
WORKDIR /work
EXPOSE 8000
HEALTHCHECK --start-period=60s --interval=30s --timeout=5s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["tabstep"]
CMD ["serve", "/model", "--host", "0.0.0.0", "--port", "8000"]
