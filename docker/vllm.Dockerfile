# vLLM as its makers publish it, and our plugin beside it: without our dependencies, which want another transformers.
# Built from the repository's root.
FROM vllm/vllm-openai:v0.32.0
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY models models
COPY pipeline pipeline
RUN uv pip install --system --no-cache --no-deps . \
    && useradd --uid 10001 --create-home zhinao
ENV HOME=/home/zhinao HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 VLLM_PLUGINS=zhinao
WORKDIR /home/zhinao
USER 10001
EXPOSE 8000
ENTRYPOINT ["python3", "-m", "models.vllm_serve"]
CMD ["--help"]
