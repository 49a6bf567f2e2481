"""Tasks that nobody solves without a memory of the whole episode: corridors, MiniGrid, POPGym.

Each is a plain Gymnasium environment with discrete actions, registered by its module, and says of
the observation that it has just returned:

- `info["cue"]`: it has to be remembered, and is seen for the first time;
- `info["recall"]`: what to do now depends on one that was;
- `info["success"]`, on the last step: how far the episode succeeded, from 0 to 1.

Beside Gymnasium's methods there are `expert(wrong=False)`, what the scripted expert does now (with
`wrong`, a plausible mistake where something is to be recalled), and `horizon`, the steps of the
longest episode.
"""
