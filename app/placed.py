"""Where a model is, and whether it is there."""

import httpx

from app.settings import Place
from models.http import endpoint
from pipeline.errors import ModelUnavailable


def is_served(place: Place) -> bool:
    """Whether another server has the model."""
    return place.url is not None and place.folder is None


def placed(role: str, place: Place, *, wait_s: float = 5.0) -> str:
    """Where the model of a role (as settings name it) is; a server is asked for its list of models.

    Raises ModelUnavailable that says what mends it.
    """
    name = f"ZHINAO_{role.upper()}"
    if place.url is None or place.folder is not None:
        if place.folder is None or not (place.folder / "config.json").is_file():
            raise ModelUnavailable(
                f"{place.folder} holds no model: mend {name}__FOLDER, or run zhinao models pull"
            )
        return f"{place.folder} on {place.device}"
    headers = {"Authorization": f"Bearer {place.key}"} if place.key else {}
    url = endpoint(place.url, "models")
    try:
        with httpx.stream(
            "GET", url, headers=headers, timeout=wait_s, trust_env=False
        ) as answered:  # what it lists is not read
            status = answered.status_code
    except httpx.HTTPError as error:
        raise ModelUnavailable(
            f"{place.url} does not answer: start that server, or mend {name}__URL"
        ) from error
    if status in {401, 403}:
        raise ModelUnavailable(f"{place.url} refuses the key: mend {name}__API_KEY")
    if status >= 500:
        raise ModelUnavailable(
            f"{place.url} answers with the status {status}: its own log says why"
        )
    return f"{place.name} at {place.url}"
