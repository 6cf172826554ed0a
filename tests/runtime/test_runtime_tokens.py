"""Decoders behind the controller: tokens as they come, clients that leave, workers that die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from small_llamas import Reference, write_llama

from stoker.envs.cluster.live import LiveEngine
from stoker.envs.cluster.spec import GIB, Cluster, Function, Gpu, Node
from stoker.runtime.arena import aligned
from stoker.runtime.backend import TorchBackend
from stoker.runtime.catalog import Deployment, Generation, Model, ModelError, deploy
from stoker.runtime.controller import Controller
from stoker.runtime.requests import RequestFailed
from stoker.runtime.streams import TokenStream

pytestmark = pytest.mark.usefixtures("one_thread")

HOW = Generation(blocks=40, max_batch=8, token_budget=64)


def served(deployments: tuple[Deployment, ...], device_bytes: int) -> Cluster:
    """One function a decoder: as many requests at a time as its batch takes, each by itself."""
    functions = tuple(
        Function(
            d.function, d.model.data_bytes / GIB, d.device_bytes / GIB, alpha_s=0.05,
            concurrency=d.generation.max_batch,
        )
        for d in deployments
    )  # fmt: skip
    return Cluster(Node((Gpu(device_bytes / GIB, 1.0, sharing="parallel"),)), functions)


@asynccontextmanager
async def running(models: list[Model], how: Generation = HOW) -> AsyncIterator[Controller]:
    deployments = deploy(models, len(models), how)
    # Room for one instance of each: else the planner starts further ones under load.
    room = sum(aligned(d.device_bytes) for d in deployments)
    spec = served(deployments, room)
    backend = TorchBackend(deployments, [room])
    names = [d.function for d in deployments]
    controller = Controller(LiveEngine(spec), backend, names)
    await controller.start()
    try:
        yield controller
    finally:
        await controller.close()


async def books(controller: Controller) -> dict[int, tuple[int, int]]:
    backend = controller.backend
    assert isinstance(backend, TorchBackend)
    return (await backend.workers[0].order("ping")).value["decoders"]  # type: ignore[no-any-return]


def prompt(length: int, count: int = 12) -> dict[str, object]:
    tokens = np.random.default_rng(length).integers(0, 97, length).tolist()
    return {"prompt": tokens, "max_tokens": count}


def test_tokens_come_as_they_are_made_and_their_times_are_kept(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m")
    expected = Reference(model).greedy(prompt(9)["prompt"], 12)  # type: ignore[arg-type]

    async def main() -> None:
        async with running([model]) as controller:
            stream = TokenStream(controller, "m-0", prompt(9))
            pieces = []
            async for piece in stream:
                pieces.append(piece)
                assert len(pieces) == 12 or not stream.answer.done()
            answer = stream.answer.result()
            assert [p.token for p in pieces] == answer.output["tokens"] == expected
            assert answer.output["finish"] == "length" and answer.output["prompt_tokens"] == 9
            assert len(answer.token_s) == 12 and list(answer.token_s) == sorted(answer.token_s)
            assert answer.arrival_s < answer.token_s[0] <= answer.finish_s
            seen = controller.statistics
            assert list(seen.first_token_s) == [answer.token_s[0] - answer.arrival_s]
            assert sum(seen.between_tokens_s) == pytest.approx(
                answer.token_s[-1] - answer.token_s[0]
            )

    asyncio.run(main())


def test_requests_join_those_that_run_and_one_load_serves_them_all(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m")
    asked = [prompt(n, 30) for n in range(3, 28)]
    reference = Reference(model)
    expected = [reference.greedy(p["prompt"], 30) for p in asked]  # type: ignore[arg-type]

    async def main() -> None:
        async with running([model]) as controller:
            futures = []
            for payload in asked:
                futures.append(controller.request("m-0", payload))
                await asyncio.sleep(0.001)
            answers = await asyncio.gather(*futures)
            assert [a.output["tokens"] for a in answers] == expected
            assert controller.statistics.counts["loads_disk"] == 1
            starts = sorted(a.start_s for a in answers)
            ends = sorted(a.finish_s for a in answers)
            assert starts[5] < ends[0], "the sixth joined before the first was done"
            assert await books(controller) == {0: (0, 0)}

    asyncio.run(main())


def test_a_client_that_leaves_frees_its_pages_at_once(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m")

    async def main() -> None:
        async with running([model]) as controller:
            stays = controller.request("m-0", prompt(20, 200))
            async with TokenStream(controller, "m-0", prompt(40, 200)) as stream:
                async for _ in stream:
                    break
                both = (await books(controller))[0]
            await asyncio.sleep(0.02)
            one = (await books(controller))[0]
            assert both[1] == 2 and one[1] == 1 and one[0] < both[0]
            assert len((await stays).output["tokens"]) == 200
            assert await books(controller) == {0: (0, 0)}
            assert controller.open_requests == 0
            counts = controller.statistics.counts
            assert (counts["cancelled"], counts["batch_errors"]) == (1, 0)

    asyncio.run(main())


def test_a_worker_killed_in_mid_generation_fails_the_open_ones_and_serves_the_next(
    tmp_path: Path,
) -> None:
    model = write_llama(tmp_path / "m")
    expected = Reference(model).greedy(prompt(9)["prompt"], 12)  # type: ignore[arg-type]

    async def main() -> None:
        async with running([model]) as controller:
            backend = controller.backend
            assert isinstance(backend, TorchBackend)
            streams = [TokenStream(controller, "m-0", prompt(n, 200)) for n in (5, 6, 7)]
            async for _ in streams[0]:
                break
            os.kill(backend.workers[0].pid or 0, signal.SIGKILL)
            for stream in streams:
                with pytest.raises(RequestFailed, match="the worker of device 0 died"):
                    await asyncio.wait_for(stream.answer, 5.0)
            assert backend.ledger.device == (0,) and controller.open_requests == 0
            answer = await controller.request("m-0", prompt(9))
            assert answer.output["tokens"] == expected
            assert await books(controller) == {0: (0, 0)}

    asyncio.run(main())


def test_a_bad_request_fails_alone_with_the_field_at_fault(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m", max_position_embeddings=64)

    async def main() -> None:
        async with running([model], Generation(blocks=2, max_batch=4)) as controller:
            fine = controller.request("m-0", prompt(9))
            for payload, reason in (
                (prompt(60), r"request\.prompt = '60 tokens and 12 to come'.*at most 64 tokens"),
                (prompt(40), r"52 tokens do not fit the key-value cache \(33 tokens\)"),
                ({"prompt": [1, 97]}, r"request\.prompt = 97 .*0\.\.96"),
                ({"prompt": []}, r"at least one token"),
                ({"prompt": [1], "max_tokens": 0}, r"request\.max_tokens = 0"),
                ({"prompt": [1], "temperature": -1.0}, r"request\.temperature = -1\.0"),
                ({"promt": [1]}, r"request\.promt .*prompt \| max_tokens"),
                ("hello", r"no tokenizer\.json"),
                (None, r"request\.prompt = None"),
            ):
                with pytest.raises(RequestFailed, match=reason):
                    await controller.request("m-0", payload)
            assert len((await fine).output["tokens"]) == 12
            assert await books(controller) == {0: (0, 0)}

    asyncio.run(main())


def test_a_drawn_answer_depends_on_its_seed_alone(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m")
    drawn = [{**prompt(8), "temperature": 1.5, "seed": s} for s in (1, 2, 1)]

    async def main() -> None:
        async with running([model]) as controller:
            alone = [(await controller.request("m-0", p)).output["tokens"] for p in drawn]
            others = [controller.request("m-0", prompt(n, 40)) for n in (30, 31, 32)]
            together = await asyncio.gather(*[controller.request("m-0", p) for p in drawn])
            await asyncio.gather(*others)
            assert alone == [a.output["tokens"] for a in together]
            assert alone[0] == alone[2] != alone[1]

    asyncio.run(main())


def test_the_cache_counts_against_the_device(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m")
    (deployment,) = deploy([model], 1, Generation(blocks=10))
    # 3 layers, keys and values, 160 positions, 2 heads of 8 floats of 4 bytes.
    cache = 3 * 2 * 160 * 2 * 8 * 4
    assert model.data_bytes <= deployment.device_bytes - cache < model.data_bytes + 64
    with pytest.raises(ModelError, match=rf"{deployment.device_bytes} bytes"):
        TorchBackend([deployment], [deployment.device_bytes - 64])
