"""`transfer record`."""

from transfer.replay.config import RecordConfig

CONFIG = RecordConfig


def run(config: RecordConfig) -> int:
    """See `transfer.replay.record.record`."""
    from transfer.replay.record import record

    found = record(config)
    size = sum(one.path.stat().st_size for one in found)
    tokens = sum(one.about.rows * one.about.tokens for one in found)
    print(f"{config.out} holds {len(found)} records of {tokens:,} tokens, {size / 1e6:,.0f} MB")
    return 0
