"""Train the two small Llama models that the tests and the demo serve, from local text only.

The text is the source of the running CPython's own library: nothing is downloaded. One
tokenizer (byte-level BPE) serves both models, so that a provider can swap one for the other
without its tokens giving it away. Part of the text is wrapped in the chat template, so that
chat requests are in distribution. The same interpreter, torch and machine give the same bytes.

    python scripts/train_models.py base small

writes ``models/lydite-base`` and ``models/lydite-small``, each a Hugging Face model directory
with a digest manifest, and records the losses in ``models/training.json``.
"""

import argparse
import ast
import json
import math
import platform
import random
import sysconfig
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from lydite.engines.weights import write_manifest

BEGIN, END = "<|begin|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIALS = (BEGIN, END, *ROLES)
CHAT_TEMPLATE = (
    "<|begin|>{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SYSTEMS = (
    "You are a careful Python programmer.",
    "You answer with Python code.",
    "You are a helpful assistant.",
    "Explain the Python standard library briefly.",
)
EXCLUDED = frozenset(
    {"test", "tests", "idle_test", "encodings", "pydoc_data", "site-packages", "lib2to3"}
)
VOCABULARY = 2048
CONTEXT = 1024
TOKENS_A_STEP = 3072
SHORT, LONG = 256, 1024  # sequence lengths; the last LONG_SHARE of the steps see long ones
LONG_SHARE = 0.1
PEAK_RATE, WARM_UP, SEED = 2e-3, 50, 20


class Shape(NamedTuple):
    """The size of one model and how long it trains."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    steps: int


SHAPES = {
    "base": Shape(width=256, layers=6, heads=4, kv_heads=2, hidden=704, steps=1300),
    "small": Shape(width=128, layers=4, heads=4, kv_heads=2, hidden=352, steps=700),
}


def library_sources() -> list[tuple[str, str]]:
    """Return (module path, source) of CPython's own library, in one fixed order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not EXCLUDED.intersection(relative.parts):
            found.append((relative.as_posix(), path.read_text("utf-8", errors="replace")))
    return found


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Return a byte-level BPE tokenizer whose decoding is exact."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, SPECIALS.index(BEGIN))]
    )
    return tokenizer


def conversations(module: str, source: str, dice: random.Random) -> Iterator[str]:
    """Yield chats in which the user asks for a documented function and is given its source."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        summary = (ast.get_docstring(node) or "").partition("\n")[0]
        code = textwrap.dedent("\n".join(lines[node.lineno - 1 : node.end_lineno]))
        if not summary or len(code) > 2500:
            continue
        name, place = node.name, module.removesuffix(".py").replace("/", ".")
        question = dice.choice(
            (
                f"Write {name} of the module {place}.",
                f"{summary}",
                f"Write a Python function: {summary}",
                f"How does {name} work?",
                f"Explain {place}.{name}.",
            )
        )
        answer = dice.choice((code, f"{summary}\n\n{code}"))
        system = f"<|system|>{dice.choice(SYSTEMS)}{END}" if dice.random() < 0.3 else ""
        yield f"{BEGIN}{system}<|user|>{question}{END}<|assistant|>{answer}{END}"


def token_streams(
    tokenizer: Tokenizer, sources: Sequence[tuple[str, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the training and validation streams; every 20th file is held out."""
    dice = random.Random(SEED)
    streams: tuple[list[str], list[str]] = ([], [])
    for number, (module, source) in enumerate(sources):
        documents = streams[number % 20 == 19]
        documents.append(f"{BEGIN}{source}{END}")
        documents.extend(conversations(module, source, dice))
    result = []
    for documents in streams:
        dice.shuffle(documents)
        encoded = tokenizer.encode_batch(documents, add_special_tokens=False)
        result.append(torch.tensor([token for one in encoded for token in one.ids]))
    return result[0], result[1]


def batches(stream: torch.Tensor, steps: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield ``steps`` batches of TOKENS_A_STEP tokens, short sequences first, then long ones."""
    long_steps = round(steps * LONG_SHARE)
    for length, count in ((SHORT, steps - long_steps), (LONG, long_steps)):
        rows = TOKENS_A_STEP // length
        blocks = stream[: len(stream) // length * length].view(-1, length)
        while count > 0:
            order = torch.randperm(len(blocks), generator=generator)
            for chosen in order[: len(order) // rows * rows].view(-1, rows)[:count]:
                yield blocks[chosen]
                count -= 1


def rate(step: int, steps: int) -> float:
    """Return the learning rate: a short warm-up, then a linear fall to nothing."""
    return PEAK_RATE * min((step + 1) / WARM_UP, (steps - step) / (steps - WARM_UP))


def loss_of(model: LlamaForCausalLM, tokens: torch.Tensor) -> torch.Tensor:
    """Return the mean next-token loss in nats."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(tokens[:, :-1], use_cache=False).logits
    return cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())


@torch.no_grad()
def validation_loss(model: LlamaForCausalLM, stream: torch.Tensor) -> float:
    """Return the loss over the first 96 held-out blocks."""
    model.eval()
    blocks = stream[: 96 * SHORT].view(-1, 12, SHORT)
    losses = [loss_of(model, block).item() for block in blocks]
    model.train()
    return sum(losses) / len(losses)


def fresh_model(shape: Shape) -> LlamaForCausalLM:
    """Return an untrained model of ``shape``."""
    torch.manual_seed(SEED)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=shape.width,
            intermediate_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            max_position_embeddings=CONTEXT,
            bos_token_id=SPECIALS.index(BEGIN),
            eos_token_id=SPECIALS.index(END),
            tie_word_embeddings=False,
        )
    )


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, directory: Path) -> None:
    """Write a complete Hugging Face model directory in bfloat16, and its manifest."""
    directory.mkdir(parents=True, exist_ok=True)
    served = LlamaForCausalLM(model.config).to(torch.bfloat16)
    served.load_state_dict(model.state_dict())
    served.generation_config = GenerationConfig(
        bos_token_id=SPECIALS.index(BEGIN), eos_token_id=SPECIALS.index(END)
    )
    served.save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "additional_special_tokens": list(ROLES),
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(settings, indent=2) + "\n"
    (directory / "tokenizer_config.json").write_text(text, "utf-8")
    write_manifest(directory)


def train(name: str, shape: Shape, tokenizer: Tokenizer, streams: Any, out: Path) -> dict[str, Any]:
    """Train one model, printing as it goes; return what ``training.json`` says about it."""
    model, (text, held_out) = fresh_model(shape), streams
    decayed = [weight for weight in model.parameters() if weight.dim() == 2]
    others = [weight for weight in model.parameters() if weight.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(SEED)
    started, smooth = time.monotonic(), 0.0
    for step, tokens in enumerate(batches(text, shape.steps, generator)):
        for group in optimizer.param_groups:
            group["lr"] = rate(step, shape.steps)
        loss = loss_of(model, tokens)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        smooth = loss.item() if step == 0 else 0.95 * smooth + 0.05 * loss.item()
        if not math.isfinite(smooth):
            raise SystemExit(f"{name}: the loss is not finite at step {step}")
        if step % 25 == 0:
            spent = time.monotonic() - started
            left = spent / (step + 1) * (shape.steps - step - 1)
            bar = f"[{'#' * (20 * step // shape.steps):20}] {step}/{shape.steps}"
            print(f"{name} {bar} loss {smooth:.3f} left {left:.0f} s", flush=True)
        if step in (50, 200):
            save(model, tokenizer, out / f"lydite-{name}")  # others may begin to use it
    save(model, tokenizer, out / f"lydite-{name}")
    return {
        "name": f"lydite-{name}",
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "steps": shape.steps,
        "tokens": shape.steps * TOKENS_A_STEP,
        "train_loss": round(smooth, 4),
        "validation_loss": round(validation_loss(model, held_out), 4),
        "seconds": round(time.monotonic() - started),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def record(entry: dict[str, Any], path: Path) -> None:
    """Put ``entry`` into ``training.json`` beside what other runs wrote."""
    known = json.loads(path.read_text("utf-8")) if path.exists() else []
    entries = [one for one in known if one["name"] != entry["name"]] + [entry]
    entries.sort(key=lambda one: str(one["name"]))
    path.write_text(json.dumps(entries, indent=2) + "\n", "utf-8")


def main() -> None:
    """Train the models that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="MODEL", help="base, small (default: both)")
    parser.add_argument("--out", type=Path, default=Path("models"), help="where to write")
    parser.add_argument("--steps", type=int, help="fewer steps, to try the script out")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(SHAPES)
    if unknown:
        parser.error(f"unknown models {sorted(unknown)}; there are {sorted(SHAPES)}")
    torch.set_num_threads(1)
    sources = library_sources()
    tokenizer = train_tokenizer([source for _, source in sources])
    streams = token_streams(tokenizer, sources)
    print(f"{len(sources)} files, {len(streams[0])} tokens to train, {len(streams[1])} held out")
    for name in arguments.names or SHAPES:
        shape = SHAPES[name]
        if arguments.steps:
            shape = shape._replace(steps=arguments.steps)
        entry = train(name, shape, tokenizer, streams, arguments.out)
        record(entry, arguments.out / "training.json")
        print(json.dumps(entry), flush=True)


if __name__ == "__main__":
    main()
