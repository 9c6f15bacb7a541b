"""Write docs/openapi.json: `python -m bench.openapi`."""

import json
from pathlib import Path

from app.main import routed

PATH = Path(__file__).parent.parent / "docs" / "openapi.json"


def described() -> str:
    """The description as it is committed."""
    return json.dumps(routed().openapi(), ensure_ascii=False, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    PATH.write_text(described(), encoding="utf-8")
