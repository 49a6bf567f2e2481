"""`transfer plan`."""

from transfer.plan import Plan, print_plan

CONFIG = Plan


def run(config: Plan) -> int:
    """See `transfer.plan.print_plan`."""
    print_plan(config)
    return 0
