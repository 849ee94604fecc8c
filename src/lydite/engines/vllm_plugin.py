"""A plug-in for vLLM 0.32: every answer carries the sketch of its activations.

    LYDITE_SKETCH=reference.json vllm serve MODEL --middleware lydite.engines.vllm_plugin.Sketches

vLLM loads ``register`` in each of its processes. Workers keep the states that they sample from;
the server asks for the sketch when an answer is finished, and the middleware puts it into the
answer. Without ``LYDITE_SKETCH`` nothing is changed. Where states cannot be followed (speculative
decoding, several answers at once, a pipeline of machines) an answer has no sketch, which affirms
nothing. Knows nothing of receipts but that their id is the request's.
"""

import functools
import json
import logging
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from lydite.engines import sketching
from lydite.engines.sketching import Field, Sketcher
from lydite.engines.vllm_states import States
from lydite.errors import LyditeError
from lydite.evidence.activations.claims import FIELD

SETTING = "LYDITE_SKETCH"
"""Names the file of the Reference Value whose spec and weights sketches are for."""
METHOD = "lydite_sketch"
"""What the server calls in the workers."""
MOST_BODY_BYTES = 64 << 20
"""An answer that is longer passes without a sketch."""
_WAITING = 4096
_LOG = logging.getLogger("lydite.vllm")
_made: OrderedDict[str, Field] = OrderedDict()

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Send], Awaitable[None]]


def register() -> None:
    """Change vLLM in this process, if the setting asks for it; once, however often called.

    Raises:
        ConfigurationError: the setting names no Reference Value, so that no answer would be
            sketched: better no server than one that silently gives no evidence.
    """
    path = os.environ.get(SETTING)
    if not path:
        return
    sketcher = sketching.load(measured="", reference=Path(path))
    assert sketcher is not None
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.worker import gpu_model_runner, worker_base

    if hasattr(worker_base.WorkerBase, METHOD):
        return
    setattr(worker_base.WorkerBase, METHOD, functools.partialmethod(_sketch, sketcher))
    first = gpu_model_runner.GPUModelRunner
    first.execute_model = _watching_first(_forgetting(first.execute_model))
    try:
        from vllm.v1.worker.gpu.model_runner import GPUModelRunner as Second
    except ImportError as error:  # needs Triton
        _LOG.info("the second model runner is not there: %s", error)
    else:
        Second.execute_model = _forgetting(Second.execute_model)
        Second.sample = _watching_second(Second.sample)
    AsyncLLM.generate = _fetching(AsyncLLM.generate)


def _states_of(runner: Any) -> States:
    states: States | None = getattr(runner, "_lydite_states", None)
    if states is None:
        states = runner._lydite_states = States()
    return states


def _forgetting(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Return a runner's pass, before which the states of requests that ended are let go."""

    @functools.wraps(execute)
    def forgetting(runner: Any, scheduled: Any, *arguments: Any, **named: Any) -> Any:
        _states_of(runner).finished(scheduled.finished_req_ids)
        return execute(runner, scheduled, *arguments, **named)

    return forgetting


def _watching_first(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Return the first model runner's pass, which leaves its states until tokens are sampled."""

    @functools.wraps(execute)
    def watched(runner: Any, scheduled: Any, *arguments: Any, **named: Any) -> Any:
        result = execute(runner, scheduled, *arguments, **named)
        passed = runner.execute_model_state
        if result is None and passed is not None and runner.speculative_config is None:
            batch = runner.input_batch
            names = list(batch.req_ids[: batch.num_reqs])
            computed = batch.num_computed_tokens_cpu
            counts = [scheduled.num_scheduled_tokens[name] for name in names]
            positions = [int(computed[i]) + count - 1 for i, count in enumerate(counts)]
            _states_of(runner).add(names, positions, passed.sample_hidden_states)
        return result

    return watched


def _watching_second(sample: Callable[..., Any]) -> Callable[..., Any]:
    """Return the second model runner's sampling, which is given the states of a whole pass."""

    @functools.wraps(sample)
    def watched(runner: Any, hidden: Any, batch: Any, *arguments: Any, **named: Any) -> Any:
        result = sample(runner, hidden, batch, *arguments, **named)
        if runner.speculative_config is None:
            last = batch.num_computed_tokens_np + batch.num_scheduled_tokens - 1
            positions = [int(position) for position in last[: batch.num_reqs]]
            names = list(batch.req_ids[: batch.num_reqs])
            _states_of(runner).add(names, positions, hidden[batch.logits_indices])
        return result

    return watched


def _sketch(
    worker: Any, sketcher: Sketcher, name: str, prompt_ids: list[int], output_ids: list[int]
) -> Field | None:
    """Run in a worker: return the field of a finished answer, None if this worker has no states."""
    states = _states_of(worker.model_runner).take(name, len(prompt_ids), len(output_ids))
    if states is None:
        return None
    try:
        return sketcher.field(receipt_id(name), prompt_ids, output_ids, states)
    except LyditeError as error:
        _LOG.warning("no sketch for %s: %s", name, error)
        return None


def receipt_id(name: str) -> str:
    """Return the receipt's id behind vLLM's name of a request, which is the header's."""
    if name.startswith("cmpl-"):
        return name.removeprefix("cmpl-").removesuffix("-0")
    return name.removeprefix("chatcmpl-")


def _fetching(generate: Callable[..., Any]) -> Callable[..., Any]:
    """Return vLLM's way to an answer, which before its last part has the answer sketched."""

    @functools.wraps(generate)
    async def fetched(
        engine: Any, prompt: Any, parameters: Any, request_id: str, **named: Any
    ) -> AsyncIterator[Any]:
        output_ids: list[int] = []
        parts = generate(engine, prompt, parameters, request_id, **named)
        try:
            async for part in parts:
                if len(part.outputs) == 1:
                    new = list(part.outputs[0].token_ids)
                    output_ids = output_ids + new if _in_parts(parameters) else new
                if part.finished and getattr(parameters, "n", 0) == 1:
                    await _fetch(engine, request_id, part.prompt_token_ids, output_ids)
                yield part
        finally:
            await parts.aclose()

    return fetched


def _in_parts(parameters: Any) -> bool:
    return getattr(getattr(parameters, "output_kind", None), "name", "") == "DELTA"


async def _fetch(engine: Any, name: str, prompt_ids: Any, output_ids: list[int]) -> None:
    given = await engine.collective_rpc(METHOD, args=(name, list(prompt_ids or ()), output_ids))
    field = next((each for each in given if each), None)
    if field is None:
        _LOG.warning("no states were followed for %s", name)
        return
    _made[receipt_id(name)] = field
    while len(_made) > _WAITING:
        _made.popitem(last=False)


class Sketches:
    """ASGI middleware: puts the sketch of an answer into the choice that ends it."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Pass a request on; hold back what of its answer may have to be changed."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not path.endswith("/completions"):
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Putting(send).send)


class _Putting:
    """One answer, on its way out."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message = {}
        self._held = bytearray()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            if self._streams():
                await self._send(message)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif self._streams():
            await self._send({**message, "body": self._events(message)})
        else:
            await self._whole(message)

    def _streams(self) -> bool:
        headers = dict(self._start.get("headers", []))
        return bytes(headers.get(b"content-type", b"")).startswith(b"text/event-stream")

    def _events(self, message: Message) -> bytes:
        """Return the finished events of a stream; the rest waits for its end."""
        self._held += message.get("body", b"")
        if not message.get("more_body", False) or len(self._held) > MOST_BODY_BYTES:
            ready, self._held = bytes(self._held), bytearray()
        else:
            ready, _, rest = bytes(self._held).rpartition(b"\n\n")
            ready, self._held = ready + b"\n\n" if ready else b"", bytearray(rest)
        return b"\n\n".join(_put_event(event) for event in ready.split(b"\n\n"))

    async def _whole(self, message: Message) -> None:
        self._held += message.get("body", b"")
        if message.get("more_body", False):
            return
        body = _put(bytes(self._held))
        headers = [
            (name, b"%d" % len(body) if name == b"content-length" else value)
            for name, value in self._start.get("headers", [])
        ]
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _put_event(event: bytes) -> bytes:
    data = event.removeprefix(b"data: ")
    ends = b'"finish_reason":' in data and b'"finish_reason":null' not in data
    return b"data: " + _put(data) if ends and data != event else event


def _put(body: bytes) -> bytes:
    """Return a body with the sketch in its only choice, or as it is if there is none for it."""
    try:
        answer = json.loads(body)
        (choice,) = answer["choices"]
        identity = answer["id"]
    except (ValueError, KeyError, TypeError):
        return body
    if not isinstance(choice, dict) or choice.get("finish_reason") is None:
        return body
    field = _made.pop(str(identity).partition("-")[2], None)
    if field is None:
        return body
    choice[FIELD] = field
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
