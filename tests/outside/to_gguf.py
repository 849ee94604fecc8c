"""Turn one of our models into llama.cpp's format, with llama.cpp's own converter.

    python tests/outside/to_gguf.py CONVERTER MODEL OUT

The converter knows tokenizers by a digest and refuses ours, which splits text as GPT-2's does; and
it asks for sentencepiece before it sees that ours is none.
"""

import sys
from pathlib import Path
from typing import Any


def no_sentencepiece(_: Any) -> None:
    raise FileNotFoundError("no tokenizer.model")


def main(converter: Path, model: Path, out: Path) -> None:
    sys.path[:0] = [str(converter), str(converter / "gguf-py")]
    import convert_hf_to_gguf
    from conversion import base

    for each in vars(base).values():
        if isinstance(each, type) and hasattr(each, "get_vocab_base_pre"):
            each.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
            each._set_vocab_sentencepiece = no_sentencepiece
    sys.argv = ["convert", str(model), "--outfile", str(out), "--outtype", "f32"]
    convert_hf_to_gguf.main()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
