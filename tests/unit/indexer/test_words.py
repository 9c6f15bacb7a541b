"""What the words index refuses."""

import numpy as np
import pytest
import tantivy

from indexer.segments.words import WordSearcher, WordWriter
from pipeline.errors import DamagedIndex


def test_an_index_of_terms_made_another_way_is_refused_in_reading_and_in_writing(tmp_path):
    builder = tantivy.SchemaBuilder()
    builder.add_integer_field("key", indexed=True, fast=True)
    builder.add_text_field("body", tokenizer_name="whitespace", index_option="freq")
    builder.add_text_field("every", tokenizer_name="raw", index_option="basic")
    writer = tantivy.Index(builder.build(), path=str(tmp_path)).writer(20_000_000, 1)
    writer.add_document(tantivy.Document(key=1, body="printed", every="every"))
    writer.commit()
    writer.wait_merging_threads()
    with pytest.raises(DamagedIndex, match="re-index"):
        WordSearcher(tmp_path, np.array([1]))
    with pytest.raises(DamagedIndex, match="re-index"):
        WordWriter.open(tmp_path)
