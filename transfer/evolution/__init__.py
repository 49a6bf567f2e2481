"""How a NAMM is evolved: searches, a ledger, the fitness, and engines that evaluate it."""
