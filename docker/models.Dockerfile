# The embedder and the reranker on torch, and the commands that fetch and convert models. PyPI's torch for Linux brings
# CUDA's libraries; the host gives the driver (NVIDIA container toolkit). Built from the repository's root.
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/zhinao && /opt/zhinao/bin/pip install uv==0.13.9
COPY requirements.txt ./
RUN /opt/zhinao/bin/uv pip install --no-cache --python /opt/zhinao/bin/python \
    -r requirements.txt torch==2.13.0 transformers==5.23.0 safetensors==0.8.0
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY app app
COPY indexer indexer
COPY models models
COPY pipeline pipeline
COPY ui ui
COPY workers workers
RUN /opt/zhinao/bin/uv pip install --no-cache --python /opt/zhinao/bin/python --no-deps .

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --create-home zhinao \
    && install --directory --owner zhinao --group zhinao /data
COPY --from=build /opt/zhinao /opt/zhinao
ENV PATH=/opt/zhinao/bin:$PATH PYTHONUNBUFFERED=1 ZHINAO_DATA=/data HF_HUB_OFFLINE=1
USER 10001
VOLUME /data
EXPOSE 8080
CMD ["zhinao", "serve-model", "embed", "rerank", "--host", "0.0.0.0", "--port", "8080"]
