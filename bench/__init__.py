"""What is measured against peers; run by hand."""
