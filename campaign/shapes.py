"""The shapes of the models that the campaign runs. Knows nothing of how they run."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Config:
    """The shape of a decoder."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv: int
    ffn: int
    vocab: int
    norm: str = "rms"  # or "layer"
    act: str = "swiglu"  # or "gelu"
    parallel: bool = False  # attention and MLP read the same input
    rotary: float = 1.0  # rotated part of a head; 0: learned positions
    experts: int = 0

    @property
    def head(self) -> int:
        """Return the width of a head."""
        return self.hidden // self.heads

    @property
    def layer_params(self) -> tuple[int, int]:
        """Weights of one layer: all, and those one token uses."""
        attention = self.hidden * self.hidden * 2 + 2 * self.hidden * self.kv * self.head
        mlp = self.hidden * self.ffn * (3 if self.act == "swiglu" else 2)
        return attention + mlp * (self.experts or 1), attention + mlp * (2 if self.experts else 1)

    @property
    def params(self) -> int:
        """Return the number of weights."""
        return self.layers * self.layer_params[0] + 2 * self.vocab * self.hidden

    @property
    def active(self) -> int:
        """Return the weights that one token uses."""
        return self.layers * self.layer_params[1] + self.vocab * self.hidden

    def tiny(self) -> "Config":
        """Return a stand-in of the same form for a CPU."""
        kv = max(1, 4 * self.kv // self.heads)
        return replace(
            self,
            layers=2,
            hidden=64,
            heads=4,
            kv=kv,
            ffn=96,
            vocab=256,
            experts=min(self.experts, 4),
        )


CONFIGS = {
    c.name: c
    for c in [
        Config("llama-7b", 32, 4096, 32, 32, 11008, 32000),
        Config("llama-13b", 40, 5120, 40, 40, 13824, 32000),
        Config("llama-70b", 80, 8192, 64, 8, 28672, 32000),
        Config("llama-70b-half", 40, 8192, 64, 8, 28672, 32000),
        Config("mistral-7b", 32, 4096, 32, 8, 14336, 32000),
        Config("qwen2-7b", 28, 3584, 28, 4, 18944, 152064),
        Config("gpt-neox-6.9b", 32, 4096, 32, 32, 16384, 50432, "layer", "gelu", True, 0.25),
        Config("gpt2-xl", 48, 1600, 25, 25, 6400, 50257, "layer", "gelu", False, 0.0),
        Config("mixtral-8x7b", 32, 4096, 32, 8, 14336, 32000, experts=8),
        Config("gpt-1.3b", 24, 2048, 16, 16, 8192, 50304, "layer", "gelu", False, 0.0),
    ]
}
