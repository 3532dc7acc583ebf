"""How work is cut: pure functions of sizes, with the limits of what fits a program."""

from __future__ import annotations

from typing import NamedTuple

#: The smallest side of a product on tensor cores.
MIN_SIDE = 16
MAX_ROWS = 128
MAX_TOKENS = 128
MAX_WIDTH = 1024
#: Most floats of a tile of the stream, which stays in registers with the sums of a block.
MAX_TILE = {"ieee": 8192, "tf32": 8192, "bf16": 16384}

#: The same for the fused blocks of training, whose backward pass holds more beside it; the most rows
#: and columns with two tiles of weights in flight, the most bytes of such a tile, and the most tokens.
MAX_TRAINING_TILE = {"ieee": 8192, "tf32": 8192, "bf16": 16384}
MAX_TRAINING_ROWS = {"ieee": 32, "tf32": 32, "bf16": 64}
MAX_TRAINING_COLUMNS = {"ieee": 32, "tf32": 32, "bf16": 64}
MAX_WEIGHT_BYTES = 16384
MAX_TRAINING_TOKENS = 64


class Tile(NamedTuple):
    """One program's share: whole candidates, `rows` rows of the stream, `tokens` for each of them.

    width: of a row, padded. columns: inner dimensions that are computed together. splits: programs
    that share the heads or hidden columns of the same rows. warps: of a program. stages: loads of
    weights in flight, as many as shared memory holds.
    """

    rows: int
    tokens: int
    width: int
    columns: int
    splits: int
    warps: int
    stages: int

    def grid(self, robots: int, count: int) -> tuple[int, int, int]:
        """(tiles of a robot's candidates, splits, robots)."""
        return -(-count // (self.rows // self.tokens)), self.splits, robots


def power_of_two(value: int, least: int = 1) -> int:
    """The smallest power of two that is at least both."""
    return max(least, 1 << (value - 1).bit_length())


def refusal(tokens: int, width: int) -> str | None:
    """Why blocks of these sizes do not fit a program; None where they do."""
    if tokens > MAX_TOKENS:
        return f"tokens must be at most {MAX_TOKENS}, got {tokens}"
    if width > MAX_WIDTH:
        return f"width must be at most {MAX_WIDTH}, got {width}"
    if power_of_two(tokens) * power_of_two(width) > 2 * max(MAX_TILE.values()):
        return (
            f"tokens times width, each rounded up to a power of two, must be at most "
            f"{2 * max(MAX_TILE.values())}, got {tokens} and {width}"
        )
    return None


def choose_tile(
    *,
    tokens: int,
    width: int,
    units: int,
    robots: int,
    count: int,
    processors: int,
    precision: str,
) -> Tile:
    """The tile of a block's op.

    The most rows that a program can hold, since every program reads all weights, but not so many
    that processors stay idle; where even the fewest leave some idle, programs share rows.

    units: heads, or chunks of hidden columns, the most that can be shared out. robots, count: B and
    C. processors: multiprocessors of the device. Raises ValueError for sizes that `refusal` names.
    """
    reason = refusal(tokens, width)
    if reason is not None:
        raise ValueError(reason)
    per_candidate, padded = power_of_two(tokens), power_of_two(width, MIN_SIDE)
    fewest = max(MIN_SIDE, per_candidate)
    most = max(fewest, min(MAX_ROWS, MAX_TILE[precision] // padded))
    enough = max(MIN_SIDE, power_of_two(count) * per_candidate)
    rows = max(fewest, min(most, enough))
    while rows > fewest and _tiles(rows, per_candidate, robots, count) < processors:
        rows //= 2
    tiles = _tiles(rows, per_candidate, robots, count)
    splits = max(1, min(units, processors // tiles))
    # No more programs than are needed for the longest share.
    splits = -(-units // -(-units // splits))
    numbers = rows * padded
    wide = numbers > 8192 or (precision != "bf16" and padded > 128)
    return Tile(
        rows,
        per_candidate,
        padded,
        columns=32 if wide else 64,
        splits=splits,
        warps=8 if numbers >= 8192 else 4,
        # What compiling for the smallest chips (163 KiB of shared memory) showed to fit.
        stages=2 if wide else 3,
    )


def training_refusal(tokens: int, width: int, precision: str) -> str | None:
    """Why blocks of these sizes cannot be trained by fused kernels; None where they can."""
    limit = MAX_TRAINING_TILE[precision]
    if tokens > MAX_TRAINING_TOKENS:
        return f"tokens must be at most {MAX_TRAINING_TOKENS}, got {tokens}"
    if _training_rows(tokens) * power_of_two(width, MIN_SIDE) > limit:
        return (
            f"tokens (at least {MIN_SIDE}) times width, each rounded up to a power of two, must be "
            f"at most {limit} for products in {precision}, got {tokens} and {width}"
        )
    return None


def choose_training_tile(
    *, tokens: int, width: int, count: int, processors: int, precision: str
) -> Tile:
    """The tile of a fused block on `count` samples, forward and backward.

    Batches are large, so no two programs share rows. Backward holds two operands of its rows beside
    three tiles of weights: what they may take is what fits the smallest chips. Raises ValueError for
    sizes that `training_refusal` names.
    """
    reason = training_refusal(tokens, width, precision)
    if reason is not None:
        raise ValueError(reason)
    per_sample, padded = power_of_two(tokens), power_of_two(width, MIN_SIDE)
    fewest = _training_rows(tokens)
    most = MAX_TRAINING_ROWS[precision]
    rows = max(fewest, min(most, MAX_TRAINING_TILE[precision] // padded))
    while rows > fewest and _tiles(rows, per_sample, 1, count) < processors:
        rows //= 2
    size = padded * (2 if precision == "bf16" else 4)
    columns = max(MIN_SIDE, min(MAX_TRAINING_COLUMNS[precision], MAX_WEIGHT_BYTES // size))
    return Tile(
        rows,
        per_sample,
        padded,
        columns=columns,
        splits=1,
        warps=8 if rows * padded >= 8192 else 4,
        stages=2 if rows <= most and columns * size <= MAX_WEIGHT_BYTES else 1,
    )


def _training_rows(tokens: int) -> int:
    """The fewest rows of a program that holds whole samples."""
    return max(MIN_SIDE, power_of_two(tokens))


def _tiles(rows: int, per_candidate: int, robots: int, count: int) -> int:
    return robots * -(-count // (rows // per_candidate))


def chunk(size: int, most: int) -> int:
    """The power of two that a dimension of `size` is cut into: at least a product's side."""
    return min(most, power_of_two(size, MIN_SIDE))
