"""Search in Milvus: dense vectors and words of collections that one machine cannot hold."""
