"""Makes `tests/fixtures` importable, which has no packages so that nothing hides the real folders."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "fixtures"))

pytest_plugins = ["bundled_e5", "databases", "lite_milvus", "scripted_openai", "strict"]
