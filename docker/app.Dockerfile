# The API, the page and the workers: no torch, no GPU. Built from the repository's root.
FROM python:3.11.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/zhinao && /opt/zhinao/bin/pip install uv==0.13.9
COPY requirements.txt ./
RUN /opt/zhinao/bin/uv pip install --no-cache --python /opt/zhinao/bin/python -r requirements.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY app app
COPY indexer indexer
COPY models models
COPY pipeline pipeline
COPY ui ui
COPY workers workers
RUN /opt/zhinao/bin/uv pip install --no-cache --python /opt/zhinao/bin/python --no-deps .

FROM python:3.11.13-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libmagic1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home zhinao \
    && install --directory --owner zhinao --group zhinao /data
COPY --from=build /opt/zhinao /opt/zhinao
ENV PATH=/opt/zhinao/bin:$PATH PYTHONUNBUFFERED=1 ZHINAO_DATA=/data
USER 10001
VOLUME /data
EXPOSE 8000
CMD ["zhinao", "serve", "--no-worker", "--host", "0.0.0.0"]
