"""A load of matrix products for the self-check: ``python -m lydite.monitor.gemm [DEVICE]``.

Reads ``on`` and ``off`` from standard input and answers each. It writes nothing else and keeps
nothing; the numbers that it multiplies are random, since zeros draw less.
"""

import sys
import threading

import torch

SIZE = 4096


def main(words: list[str]) -> int:
    """Multiply when told to, until the input ends."""
    device = words[0] if words else "cuda"
    kind = torch.float32 if device == "cpu" else torch.bfloat16
    size = 512 if device == "cpu" else SIZE
    left, right = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    busy, done = threading.Event(), threading.Event()

    def work() -> None:
        while not done.is_set():
            if busy.wait(0.2):
                torch.mm(left, right)
                if device != "cpu":
                    torch.cuda.synchronize()

    torch.mm(left, right)
    worker = threading.Thread(target=work)
    worker.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        word = line.strip()
        (busy.set if word == "on" else busy.clear)()
        sys.stdout.write(f"{word}\n")
        sys.stdout.flush()
    done.set()
    busy.set()
    worker.join()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
