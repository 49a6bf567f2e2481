"""`transfer plan`."""

from transfer.plan_options import Plan

CONFIG = Plan


def run(config: Plan) -> int:
    """See `transfer.plan.print_plan`."""
    from transfer.plan import print_plan

    print_plan(config)
    return 0
