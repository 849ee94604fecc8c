"""Further work: a busy server, transformers, diffusion, image models, training.

Has the contract of `works`.
"""

import time

import torch
import torch.nn.functional as F
import vision
from works import DTYPES, Emit, Place, Serve, UnavailableError, Work, now

from models import Decoder, normal


def _warm(work: Work) -> None:
    """One step unseen: libraries choose their kernels before the measured time."""
    work.step(lambda *_, **__: None)
    work.count = 0


class Poisson(Serve):
    """Requests of mixed length arrive at random; prefill of newcomers, decode of all slots."""

    def __init__(self, place: Place, model: str, dtype: str, slots: int, rate: float):
        super().__init__(place, model, "none", dtype, slots, 1024, 256)
        self.left, self.rate, self.next = [0] * self.batch, rate, now()
        self.waiting: list[int] = []

    def _arrive(self) -> None:
        while self.next <= now():
            self.waiting.append(self.place.rng.choice((64, 128, 256, 512, 1024)))
            self.next += int(self.place.rng.expovariate(self.rate) * 1e9)

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        self._arrive()
        free = [i for i, n in enumerate(self.left) if n == 0]
        if free and self.waiting:
            self.prompt, row = min(self.waiting.pop(0), 16 if self.place.dry else 1024), free[0]
            t0 = now()
            self.model.prefill(self._prompts(1), row)
            self.place.sync()
            emit("prefill", t0=t0, t1=now(), tokens=self.prompt, step=row)
            self.left[row] = min(self.output, 1 + int(self.place.rng.expovariate(1 / 128)))
        elif any(self.left):
            start, tokens, made = now(), 0, 0
            while any(self.left) and now() - start < 40_000_000 and self.next > now():
                self.model.advance()
                self.model.token.cpu()
                tokens, made = tokens + sum(n > 0 for n in self.left), made + 1
                self.left = [max(0, n - 1) for n in self.left]
            if made:
                emit("decode", t0=start, t1=now(), tokens=tokens, step=self.count, iterations=made)
        else:
            time.sleep(min(0.1, max(0.001, (self.next - now()) / 1e9)))
        self.count += 1


class Eager(Work):
    """transformers' own Llama, eager, dynamic cache: the greedy loop of `generate`."""

    def __init__(self, place: Place, model: str, dtype: str, batch: int, prompt: int, output: int):
        super().__init__(place)
        try:
            import transformers
        except ImportError as error:
            raise UnavailableError(f"transformers cannot be imported: {error}") from error
        cfg = place.config(model)
        self.batch, self.prompt, self.output, self.vocab = (
            batch,
            16 if place.dry else prompt,
            4 if place.dry else output,
            cfg.vocab,
        )
        settings = transformers.LlamaConfig(
            vocab_size=cfg.vocab,
            hidden_size=cfg.hidden,
            intermediate_size=cfg.ffn,
            num_hidden_layers=cfg.layers,
            num_attention_heads=cfg.heads,
            num_key_value_heads=cfg.kv,
            max_position_embeddings=4096,
            initializer_range=0.02,
        )
        usual = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32 if place.dry else DTYPES[dtype])
        try:
            with torch.device(place.device):
                self.model = transformers.LlamaForCausalLM(settings).eval()
        finally:
            torch.set_default_dtype(usual)
        with torch.no_grad():  # whatever the library's own start was
            for weight in self.model.parameters():
                if weight.dim() > 1:
                    weight.normal_(0, 0.02)
        self.notes["transformers"] = transformers.__version__
        self.cache, self.token, self.made = None, None, 0
        _warm(self)
        self.cache = None

    @torch.no_grad()
    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        start, made = now(), 0
        if self.cache is None:
            tokens = torch.randint(self.vocab, (self.batch, self.prompt), device=self.place.device)
            out = self.model(input_ids=tokens, use_cache=True, logits_to_keep=1)
            self.cache, self.token, self.made = (
                out.past_key_values,
                out.logits[:, -1:].argmax(-1),
                1,
            )
            self.place.sync()
            emit("prefill", t0=start, t1=now(), tokens=self.batch * self.prompt, step=0)
            return
        while self.made < self.output and (not made or now() - start < 60_000_000):
            out = self.model(input_ids=self.token, past_key_values=self.cache, use_cache=True)
            self.token = out.logits[:, -1:].argmax(-1)
            self.token.cpu()
            self.made, made = self.made + 1, made + 1
        emit(
            "decode", t0=start, t1=now(), tokens=made * self.batch, step=self.made, iterations=made
        )
        if self.made >= self.output:
            self.cache = None


class Diffusion(Work):
    """Thirty guided denoising steps at 128x128 latents, image after image, without a VAE."""

    def __init__(self, place: Place, batch: int, dtype: str):
        super().__init__(place)
        side, self.text_width = (16, 64) if place.dry else (128, 2048)
        self.dtype = torch.float32 if place.dry else DTYPES[dtype]
        with torch.device(place.device):
            net = vision.UNet(32, (0, 1, 1), 64) if place.dry else vision.UNet()
        self.net = vision.randomise(net).to(self.dtype).to(memory_format=torch.channels_last).eval()
        self.shape = (2 * batch, 4, side, side)
        _warm(self)

    @torch.no_grad()
    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0, device, at = now(), self.place.device, self.count % 30
        if at == 0:
            self.latent = torch.randn(self.shape, device=device, dtype=self.dtype).contiguous(
                memory_format=torch.channels_last
            )
            self.text = torch.randn(
                self.shape[0], 77, self.text_width, device=device, dtype=self.dtype
            )
        when = torch.full((self.shape[0],), 999.0 - 33 * at, device=device)
        noise, plain = self.net(self.latent, when, self.text).chunk(2)
        guided = plain + 7.5 * (noise - plain)
        self.latent = (self.latent - 0.03 * torch.cat((guided, guided))).clamp(-4, 4)
        self.place.sync()
        emit("denoise", t0=t0, t1=now(), step=at)
        self.count += 1


class Image(Work):
    """ViT-L or ResNet-50: inference, or training with momentum."""

    def __init__(self, place: Place, model: str, batch: int, dtype: str, train: bool = False):
        super().__init__(place)
        side = 32 if place.dry else 224
        with torch.device(place.device):
            if model == "vit-l":
                net: torch.nn.Module = vision.ViT(2, 64, 4, 16, 32) if place.dry else vision.ViT()
            else:
                net = vision.ResNet((1, 1, 1, 1), 8) if place.dry else vision.ResNet()
        net = vision.randomise(net).to(memory_format=torch.channels_last)
        self.dtype = torch.float32 if place.dry else DTYPES[dtype]
        self.net = net.train() if train else net.to(self.dtype).eval()
        self.batch = 2 if place.dry else batch
        self.x = torch.randn(
            self.batch,
            3,
            side,
            side,
            device=place.device,
            dtype=torch.float32 if train else self.dtype,
        )
        self.y = torch.randint(1000, (self.batch,), device=place.device)
        self.best = torch.optim.SGD(net.parameters(), 1e-3, momentum=0.9) if train else None
        _warm(self)

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0 = now()
        if self.best is None:
            with torch.no_grad():
                for _ in range(1 if self.place.dry else 2):
                    self.net(self.x)
        else:
            with torch.autocast(self.place.device, torch.bfloat16, enabled=not self.place.dry):
                loss = F.cross_entropy(self.net(self.x).float(), self.y)
            loss.backward()
            self.best.step()
            self.best.zero_grad()
        self.place.sync()
        emit(
            "forward" if self.best is None else "train",
            t0=t0,
            t1=now(),
            tokens=self.batch,
            step=self.count,
        )
        self.count += 1


class Lora:
    """A frozen matrix with a trainable one of rank 16 beside it."""

    def __init__(self, base: torch.Tensor, dtype: torch.dtype):
        self.base, device = base, str(base.device)
        self.a, self.b = (
            normal(*s, dtype=dtype, device=device).requires_grad_()
            for s in ((16, base.shape[1]), (base.shape[0], 16))
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the product."""
        return F.linear(x, self.base) + F.linear(F.linear(x, self.a), self.b)


class Train(Work):
    """Language-model training: all weights with AdamW, or LoRA on frozen 16-bit weights.

    `forwards`: so many plain forward passes between two optimiser steps (0: none).
    """

    def __init__(
        self,
        place: Place,
        model: str,
        batch: int,
        length: int,
        lora: bool = False,
        forwards: int = 0,
    ):
        super().__init__(place)
        if place.dry:
            batch, length = 2, 16
        self.cfg, self.shape, self.forwards = place.config(model), (batch, length), forwards
        dtype = torch.bfloat16 if lora and not place.dry else torch.float32
        self.model = Decoder(self.cfg, "none", dtype, place.device, 0, length)
        if lora:
            for layer in self.model.layers:
                layer["qkv"], layer["out"] = (
                    Lora(layer["qkv"].weight, dtype),
                    Lora(layer["out"].weight, dtype),
                )
            weights = [
                t
                for layer in self.model.layers
                for m in (layer["qkv"], layer["out"])
                for t in (m.a, m.b)
            ]
        else:
            weights = [t.requires_grad_() for t in self.model.trainables()]
        self.autocast = not place.dry and not lora
        self.best = torch.optim.AdamW(weights, 1e-4, fused=not place.dry)
        self._pass(True)
        place.sync()

    def _pass(self, learn: bool) -> None:
        tokens = torch.randint(self.cfg.vocab, self.shape, device=self.place.device)
        with (
            torch.set_grad_enabled(learn),
            torch.autocast(self.place.device, torch.bfloat16, enabled=self.autocast),
        ):
            logits = self.model.logits(tokens)
            if learn:
                loss = F.cross_entropy(
                    logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten()
                )
        if learn:
            loss.backward()
            self.best.step()
            self.best.zero_grad()

    def step(self, emit: Emit) -> None:
        """Do a piece of work and wait for it."""
        t0, learn = now(), self.count % (self.forwards + 1) == self.forwards
        self._pass(learn)
        self.place.sync()
        emit(
            "train" if learn else "forward",
            t0=t0,
            t1=now(),
            tokens=self.shape[0] * self.shape[1],
            step=self.count,
        )
        self.count += 1
