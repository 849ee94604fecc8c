"""The SDK of OpenAI through the recomputer: nothing changes, and every receipt holds."""

import asyncio

import pytest
from openai import AsyncOpenAI, OpenAI, OpenAIError

from lydite.messages.tier import Tier
from lydite.openai import verified_async_client, verified_client
from tests.recomputer.conftest import Stage


def test_answers_and_streams_arrive_with_receipts_that_hold(stage: Stage) -> None:
    base = f"http://127.0.0.1:{stage.port}/v1"
    http = verified_client(stage.deployment.trust, trust_env=False)
    with OpenAI(base_url=base, api_key="none", http_client=http, max_retries=0) as sdk:
        whole = sdk.completions.create(model="bigram", prompt="hello", max_tokens=8)
        assert len(whole.choices[0].text) == 8
        turn = {"role": "user", "content": "hello"}
        chat = sdk.chat.completions.create(model="bigram", messages=[turn], max_tokens=8)  # type: ignore[list-item]
        assert chat.choices[0].message.content
        parts = sdk.chat.completions.create(
            model="bigram",
            messages=[turn],  # type: ignore[list-item]
            max_tokens=8,
            stream=True,
        )
        text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
        assert len(text) == 8
        assert [each.id for each in sdk.models.list()] == ["bigram"]
        assert len(http.receipts.kept) == 3
        tiers: list[Tier] = []

        def settled() -> bool:
            tiers.extend(report.tier for report in http.receipts.settle())
            return not http.receipts.pending

        stage.until(settled)
        assert Tier.CONTRAINDICATED not in tiers
        assert not http.receipts.faults


def test_a_refusal_is_an_error_that_the_sdk_knows(stage: Stage) -> None:
    base = f"http://127.0.0.1:{stage.port}/v1"
    with (
        OpenAI(base_url=base, api_key="none", max_retries=0) as sdk,
        pytest.raises(OpenAIError, match="nobody serves 'unheard-of'") as refused,
    ):
        sdk.completions.create(model="unheard-of", prompt="hello")
    assert getattr(refused.value, "status_code", 0) == 503


def test_many_streams_at_once_keep_apart(stage: Stage) -> None:
    base = f"http://127.0.0.1:{stage.port}/v1"

    async def talk() -> list[str]:
        http = verified_async_client(stage.deployment.trust, trust_env=False)
        async with AsyncOpenAI(base_url=base, api_key="none", http_client=http) as sdk:

            async def one(number: int) -> str:
                parts = await sdk.completions.create(
                    model="bigram", prompt=f"number {number}", max_tokens=16, stream=True
                )
                return "".join([part.choices[0].text async for part in parts if part.choices])

            return await asyncio.gather(*(one(number) for number in range(40)))

    texts = asyncio.run(talk())
    assert all(len(text) == 16 for text in texts)
