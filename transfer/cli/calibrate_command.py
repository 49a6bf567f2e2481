"""`transfer calibrate`."""

from transfer.evaluation.calibrate import CalibrateConfig

CONFIG = CalibrateConfig


def run(config: CalibrateConfig) -> int:
    """See `transfer.evaluation.calibrate_run.calibrate`."""
    from transfer.evaluation.calibrate_run import calibrate

    print(calibrate(config))
    return 0
