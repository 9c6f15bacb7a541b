"""The one seam to Milvus: collections of rows, inserted, deleted and searched.

A row is a chunk: `key`; `script`, its place in SCRIPTS; `dense`, its vector; `sparse`, the saturated frequency of each
of its terms (indexer/milvus/vocabulary.py gives terms their numbers). Everything is read with the consistency level
Strong: a search sees every insert that returned before it.
"""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DamagedIndex, InvalidInput, Unavailable
from pipeline.types import Keys, Vectors

MOST_HITS = 16_384
"""Milvus returns no more hits of a search, and no more rows of a query."""
MOST_KEYS = 8_192
"""Keys that one filter names."""
_ROWS_AT_ONCE = 500
_TIMEOUT_S = 60.0
_CONNECT_S = 10.0
_PING_MS = 300_000
"""A server of gRPC that was set up for nothing else ends connections that are pinged more often while nobody asks."""
_NO_COLLECTION = 100  # an error code of Milvus


@dataclass(frozen=True, slots=True, eq=False)
class MilvusRows:
    """`keys` (n,), `scripts` (n,) uint8, `dense` (n, dim) float16, `sparse` one mapping a row, none of them empty."""

    keys: Keys
    scripts: NDArray[np.uint8]
    dense: NDArray[np.float16]
    sparse: Sequence[Mapping[int, float]]


class MilvusStore:
    """Connects when it is first used. Threads may share it. Every method raises Unavailable when Milvus refuses.

    `url` is http://HOST:19530, or the path of a file that ends in .db: milvus-lite, for tests. That one has no float16
    vectors, so it keeps the same numbers as float32. `prefix` tells the collections of several installations apart;
    `dense_index` is the type of the index of the vectors, of the collections that are made from now on.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        prefix: str = "zhinao",
        dense_index: str = "AUTOINDEX",
    ) -> None:
        self._url = url
        self._token = token
        self._prefix = prefix
        self._dense_index = dense_index
        self._lite = url.endswith(".db")
        self._client: Any = None
        self._lock = threading.Lock()

    def name(self, collection_id: str, generation_id: int) -> str:
        """The Milvus collection of a generation."""
        return f"{self._prefix}_{collection_id}_{generation_id}"

    def make(self, name: str, dim: int) -> None:
        """Make an empty collection; one of this name is dropped before."""
        from pymilvus import DataType

        with self._asked() as client:
            if client.has_collection(name):
                client.drop_collection(name)
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("key", DataType.INT64, is_primary=True)
            schema.add_field("script", DataType.INT8)
            dense = DataType.FLOAT_VECTOR if self._lite else DataType.FLOAT16_VECTOR
            schema.add_field("dense", dense, dim=dim)
            schema.add_field("sparse", DataType.SPARSE_FLOAT_VECTOR)
            index = client.prepare_index_params()
            kind = "FLAT" if self._lite else self._dense_index
            index.add_index("dense", index_type=kind, metric_type="IP")
            index.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
            client.create_collection(
                name, schema=schema, index_params=index, consistency_level="Strong"
            )

    def drop(self, name: str) -> None:
        """Remove a collection; nothing when it is not there."""
        with self._asked() as client:
            if client.has_collection(name):
                client.drop_collection(name)

    def names(self) -> list[str]:
        """The collections of this prefix."""
        with self._asked() as client:
            found = client.list_collections()
        return sorted(name for name in found if name.startswith(f"{self._prefix}_"))

    def put(self, name: str, rows: MilvusRows) -> None:
        """Insert rows; one of the same key is replaced."""
        dense = rows.dense.astype(np.float32) if self._lite else rows.dense
        keys, scripts = rows.keys.tolist(), rows.scripts.tolist()
        with self._asked(name) as client:
            for start in range(0, len(keys), _ROWS_AT_ONCE):
                client.upsert(
                    name,
                    [
                        {
                            "key": keys[row],
                            "script": scripts[row],
                            "dense": dense[row],
                            "sparse": dict(rows.sparse[row]),
                        }
                        for row in range(start, min(start + _ROWS_AT_ONCE, len(keys)))
                    ],
                    timeout=_TIMEOUT_S,
                )

    def delete(self, name: str, keys: Keys) -> None:
        """Take rows out; keys that are not there are passed over."""
        with self._asked(name) as client:
            for few in _pieces(keys):
                client.delete(name, filter=_among(few), timeout=_TIMEOUT_S)

    def search_dense(
        self, name: str, vector: Vectors, count: int, where: str
    ) -> tuple[Keys, Vectors]:
        """Keys and inner products of the `count` best rows, best first."""
        query = vector.astype(np.float32) if self._lite else vector.astype(np.float16)
        return self._search(name, "dense", query, count, where)

    def search_sparse(
        self, name: str, weights: Mapping[int, float], count: int, where: str
    ) -> tuple[Keys, Vectors]:
        """As `search_dense`, by terms; rows that hold none of them are left out."""
        keys, scores = self._search(name, "sparse", dict(weights), count, where)
        return keys[scores > 0], scores[scores > 0]

    def keys(self, name: str) -> Iterator[Keys]:
        """All keys, ascending, in pieces."""
        with self._asked(name) as client:
            # A query with a limit alone may leave out rows of smaller keys; the iterator asks for all.
            pages = client.query_iterator(name, batch_size=MOST_KEYS, output_fields=["key"])
            try:
                while rows := pages.next():
                    yield np.sort(np.array([row["key"] for row in rows], np.int64))
            finally:
                pages.close()

    def terms(self, name: str, keys: Keys) -> dict[int, list[int]]:
        """The numbers of the terms of each of these rows that is there."""
        found: dict[int, list[int]] = {}
        with self._asked(name) as client:
            for few in _pieces(keys, 500):
                rows = client.query(name, filter=_among(few), output_fields=["key", "sparse"])
                found.update((row["key"], list(row["sparse"])) for row in rows)
        return found

    def count(self, name: str) -> int:
        """How many rows there are."""
        with self._asked(name) as client:
            return int(client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"])

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _search(
        self,
        name: str,
        field: str,
        query: Any,  # noqa: ANN401  # a vector, or a mapping
        count: int,
        where: str,
    ) -> tuple[Keys, Vectors]:
        with self._asked(name) as client:
            (hits,) = client.search(
                name,
                data=[query],
                anns_field=field,
                filter=where,
                limit=min(count, MOST_HITS),
                search_params={"metric_type": "IP"},
                timeout=_TIMEOUT_S,
            )
        keys = np.array([hit["key"] for hit in hits], np.int64)
        return keys, np.array([hit["distance"] for hit in hits], np.float32)

    @contextmanager
    def _asked(self, name: str | None = None) -> Iterator[Any]:
        """The client; what it raises becomes a sentence."""
        from pymilvus.exceptions import MilvusException

        try:
            yield self._connected()
        except MilvusException as error:
            if name is not None and error.code == _NO_COLLECTION:
                raise DamagedIndex(
                    f"Milvus at {self._url} has no collection {name}: fill it again with zhinao doctor --deep --mend, "
                    "restore it there, or move the collection back with zhinao index move milvus faiss"
                ) from error
            raise self._away(error.message) from error

    def _connected(self) -> Any:  # noqa: ANN401  # pymilvus' own types are not exported
        with self._lock:
            if self._client is None:
                try:
                    from pymilvus import MilvusClient
                except ModuleNotFoundError as error:
                    if error.name != "pymilvus":
                        raise
                    raise InvalidInput(
                        "collections in Milvus need its client: install the extra, pip install 'zhinao-rag[milvus]'"
                    ) from error
                # It logs each error with a traceback, and raises it too.
                logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
                self._client = MilvusClient(
                    self._url,
                    token=self._token,
                    timeout=_CONNECT_S,
                    grpc_options={"grpc.keepalive_time_ms": _PING_MS},
                )
            return self._client

    def _away(self, why: object) -> Unavailable:
        return Unavailable(
            f"Milvus at {self._url} does not answer as it should ({why}): check that it runs, and "
            "ZHINAO_INDEX__MILVUS_URL and ZHINAO_INDEX__MILVUS_TOKEN"
        )


def among(keys: Keys) -> Iterator[str]:
    """Filters that together name these keys, each of them once."""
    return map(_among, _pieces(keys))


def _pieces(keys: Keys, size: int = MOST_KEYS) -> Iterator[Keys]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def _among(keys: Keys) -> str:
    return f"key in [{','.join(map(str, keys.tolist()))}]"
