"""Adapters to models: embedders, rerankers, chat."""
