"""One iteration of a decoder as tensors: where its tokens lie, and which pages they look at.

Sequences with about as many new tokens (between two powers of two) are attended to as one padded
group, so all that decode are one group and no group is more than half padding.

Shapes: N new tokens of all sequences, B sequences of a group, Q most new tokens of one of them,
P most pages of one, S page size, R queries that share a key head.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
import torch.nn.functional as nnf
from torch import Tensor

from stoker.runtime.iterations import Sequence


@dataclass
class Group:
    """Sequences that are attended to together."""

    first: int
    """Number of its first token among the N."""
    count: int
    """New tokens of it."""
    padded: Tensor | None
    """Of each padded place its token, from `first`; None = no padding. Shape: (B, Q)"""
    kept: Tensor | None
    """Of each token its padded place. Shape: (count,)"""
    sequences: int
    pages: Tensor
    """Shape: (B, P)"""
    mask: Tensor
    """0 where a query sees a position, else -inf. Shape: (B, 1, Q * R, P * S)"""


@dataclass
class Iteration:
    """What a decoder computes in one pass."""

    tokens: Tensor
    """Shape: (N,)"""
    positions: Tensor
    """Shape: (N,)"""
    slots: Tensor
    """Place in the cache of each token's key and value. Shape: (N,)"""
    groups: list[Group]
    last: Tensor
    """The last token of each sequence, in the order given. Shape: (sequences,)"""


def lay_out(
    batch: Seq[tuple[Sequence, int]], block_tokens: int, repeat: int, like: Tensor
) -> tuple[Iteration, list[Sequence]]:
    """Make the tensors of an iteration.

    Args:
        batch: sequences and how many of their pending tokens to compute.
        block_tokens: positions a page.
        repeat: query heads a key head.
        like: of the device and the type of the activations.

    Returns:
        The iteration, and its sequences in the order of `last`.
    """
    ordered = sorted(batch, key=lambda item: item[1].bit_length() if item[1] > 1 else 0)
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    last: list[int] = []
    groups: list[Group] = []
    members: list[tuple[Sequence, int]] = []
    size = -1
    for sequence, count in ordered:
        bucket = count.bit_length() if count > 1 else 0
        if bucket != size and members:
            groups.append(_group(members, len(tokens), block_tokens, repeat, like))
            members = []
        size = bucket
        members.append((sequence, count))
        start = sequence.cached
        tokens += sequence.tokens[start : start + count]
        positions += range(start, start + count)
        table = sequence.blocks
        slots += [
            table[p // block_tokens] * block_tokens + p % block_tokens
            for p in range(start, start + count)
        ]
        last.append(len(tokens) - 1)
    groups.append(_group(members, len(tokens), block_tokens, repeat, like))
    made = torch.tensor([tokens, positions, slots]).to(like.device, non_blocking=True)
    ends = torch.tensor(last).to(like.device, non_blocking=True)
    return Iteration(made[0], made[1], made[2], groups, ends), [s for s, _ in ordered]


def _group(
    members: list[tuple[Sequence, int]], end: int, block_tokens: int, repeat: int, like: Tensor
) -> Group:
    counts = [count for _, count in members]
    most, total = max(counts), sum(counts)
    # The pages that hold the positions up to the last new token; pages beyond are not looked at.
    reach = [-(-(s.cached + n) // block_tokens) for s, n in members]
    deep = max(reach)
    pages = torch.tensor(
        [s.blocks[:n] + [0] * (deep - n) for (s, _), n in zip(members, reach, strict=True)]
    ).to(like.device, non_blocking=True)
    starts = torch.tensor([s.cached for s, _ in members])[:, None]
    places = torch.arange(most)[None, :]
    valid = places < torch.tensor(counts)[:, None]
    seen = torch.where(valid, starts + places, 0)
    mask = torch.zeros((len(members), most, deep * block_tokens), dtype=like.dtype)
    mask.masked_fill_(torch.arange(deep * block_tokens) > seen[:, :, None], -torch.inf)
    mask = mask.repeat_interleave(repeat, dim=1).unsqueeze(1).to(like.device, non_blocking=True)
    padded = kept = None
    if total < len(members) * most:
        kept = valid.flatten().nonzero().flatten()
        padded = torch.zeros(len(members) * most, dtype=torch.int64)
        padded[kept] = torch.arange(total)
        padded = padded.view(len(members), most).to(like.device, non_blocking=True)
        kept = kept.to(like.device, non_blocking=True)
    return Group(end - total, total, padded, kept, len(members), pages, mask)


def attend(query: Tensor, keys: Tensor, values: Tensor, groups: list[Group]) -> Tensor:
    """Attention of new tokens over their sequences' pages.

    Args:
        query: shape (N, heads, width a head).
        keys: of one layer, shape (blocks, S, key heads, width a head).
        values: likewise.
        groups: of the iteration.

    Returns:
        Shape: (N, heads * width a head).
    """
    heads, width = query.shape[1:]
    kv_heads = keys.shape[2]
    repeat = heads // kv_heads
    found = []
    for group in groups:
        mine = query[group.first : group.first + group.count]
        if group.padded is not None:
            mine = mine[group.padded.flatten()]
        batch = group.sequences
        # The queries that share a key head lie beside each other, so keys need no copies.
        mine = mine.view(batch, -1, kv_heads, repeat, width).permute(0, 2, 1, 3, 4)
        shape = (batch, -1, kv_heads, width)
        seen = nnf.scaled_dot_product_attention(
            mine.reshape(batch, kv_heads, -1, width),
            keys[group.pages].view(shape).transpose(1, 2),
            values[group.pages].view(shape).transpose(1, 2),
            attn_mask=group.mask,
        )
        flat = seen.view(batch, kv_heads, -1, repeat, width).permute(0, 2, 1, 3, 4)
        flat = flat.reshape(-1, heads * width)
        found.append(flat if group.kept is None else flat[group.kept])
    return found[0] if len(found) == 1 else torch.cat(found)
