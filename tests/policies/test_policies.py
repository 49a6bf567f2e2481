"""Every policy against a direct computation of its definition from the attention matrix."""

import math

import pytest
import torch

from transfer import NAMM, NAMMConfig
from transfer.cache.layer import PrunedLayer
from transfer.cache.policy import Pruning
from transfer.errors import UserError
from transfer.policies import POLICIES, get_policy
from transfer.policies import namm as module

N_UP, UPDATES, HEADS, GROUPS, DIM, SCALE = 32, 3, 2, 2, 8, 0.5


def inputs():
    torch.manual_seed(4)
    query = torch.randn(1, HEADS * GROUPS, N_UP * UPDATES, DIM, dtype=torch.float64)
    key = torch.randn(1, HEADS, N_UP * UPDATES, DIM, dtype=torch.float64)
    return query, key


def values():
    return torch.randn(1, HEADS, N_UP * UPDATES, DIM, generator=torch.Generator().manual_seed(9))


def kept_by(policy, budget=None):
    """Positions kept after each update, `[update][head]`."""
    query, key = inputs()
    layer = PrunedLayer(Pruning(policy, N_UP, budget, trace=True), 1)
    layer.attend(query, key, values().double(), None, SCALE)
    return [[head.tolist() for head in kept] for _, kept in layer.kept_positions[0]]


def replay(rule, budget):
    """The same eviction with `rule(attention, positions, head, seen, memory) -> scores`.

    `attention` is `[queries, tokens]`, the mean over the group, onto the tokens in the cache.
    """
    query, key = inputs()
    out, alive, memory = [], [[] for _ in range(HEADS)], [{} for _ in range(HEADS)]
    for update in range(UPDATES):
        start, seen = update * N_UP, (update + 1) * N_UP
        for head in range(HEADS):
            alive[head] += range(start, seen)
            tokens = torch.tensor(alive[head])
            logits = (
                query[0, head * GROUPS : (head + 1) * GROUPS, start:seen] @ key[0, head][tokens].T
            )
            future = tokens[None] > torch.arange(start, seen)[:, None]
            rows = (logits * SCALE).masked_fill(future, -torch.inf).softmax(-1).mean(0)
            memory[head]["rows"] = rows
        scores = [rule(memory[h]["rows"], alive[h], h, seen, memory) for h in range(HEADS)]
        for head in range(HEADS):
            count = math.ceil(budget * seen) if isinstance(budget, float) else budget
            order = sorted(
                range(len(alive[head])),
                key=lambda j: (j == len(alive[head]) - 1, float(scores[head][j]), j),
            )
            alive[head] = sorted(alive[head][j] for j in order[-count:])
        out.append([list(a) for a in alive])
    return out


def accumulated(rows, alive, head, memory):
    sums = memory[head].setdefault("sums", {})
    for j, position in enumerate(alive):
        sums[position] = sums.get(position, 0.0) + float(rows[:, j].sum())
    return [sums[p] for p in alive]


def h2o(budget):
    def rule(rows, alive, head, seen, memory):
        sums = accumulated(rows, alive, head, memory)
        return [math.inf if len(alive) - j <= budget // 2 else s for j, s in enumerate(sums)]

    return rule


def h2o_age(budget):
    def rule(rows, alive, head, seen, memory):
        sums = accumulated(rows, alive, head, memory)
        return [
            math.inf if len(alive) - j <= budget // 2 else s / (seen - p)
            for j, (s, p) in enumerate(zip(sums, alive))
        ]

    return rule


def l2_norm(rows, alive, head, seen, memory):
    return [-float(inputs()[1][0, head, p].norm()) for p in alive]


def tova(rows, alive, head, seen, memory):
    assert [memory[h]["rows"].shape for h in range(HEADS)] == [rows.shape] * HEADS
    return torch.stack([memory[h]["rows"][-1] for h in range(HEADS)]).mean(0)


def snapkv(rows, alive, head, seen, memory):
    mass = rows[-16:].sum(0)
    before = mass[:-16]
    pooled = [float(sum(before[max(0, j - 2) : j + 3]) / 5) for j in range(len(before))]
    return [*pooled, *[math.inf] * 16]


def recency(sinks):
    return lambda rows, alive, *_: [math.inf if p < sinks else p for p in alive]


def keydiff(rows, alive, head, seen, memory):
    units = [key / key.norm() for key in inputs()[1][0, head][alive]]
    anchor = sum(units) / len(units)
    return [-float(unit @ anchor) for unit in units]


def loudness(head, position):
    return float(values()[0, head, position].double().abs().sum())


def vatp(budget, sinks):
    def rule(rows, alive, head, seen, memory):
        sums = accumulated(rows, alive, head, memory)
        return [
            math.inf if p < sinks or len(alive) - j <= budget // 2 else s * loudness(head, p)
            for j, (s, p) in enumerate(zip(sums, alive))
        ]

    return rule


def criticalkv(budget, observe, share):
    def rule(rows, alive, head, seen, memory):
        mean = (rows[-observe:].sum(0) / observe)[:-observe]
        pooled = [float(sum(mean[max(0, j - 2) : j + 3]) / 5) for j in range(len(mean))]
        order = sorted(range(len(pooled)), key=lambda j: -pooled[j])
        first = order[: round((budget - observe) * share)]
        return [
            math.inf if j in first or j >= len(pooled) else (pooled[j] + 1e-4) * loudness(head, p)
            for j, p in enumerate(alive)
        ]

    return rule


def expected_attention(observe, sinks):
    def rule(rows, alive, head, seen, memory):
        shares = torch.zeros(len(alive)).double()
        outside = torch.tensor([p < sinks for p in alive])
        for query in inputs()[0][0, head * GROUPS : (head + 1) * GROUPS, :seen]:
            newest = query[-observe:]
            mean, spread = newest.mean(0), newest.T.cov(correction=0)
            logits = torch.stack(
                [
                    SCALE * mean @ key + SCALE**2 / 2 * key @ spread @ key
                    for key in inputs()[1][0, head][alive]
                ]
            )
            shares += logits.masked_fill(outside, -math.inf).softmax(0) / GROUPS
        norms = values()[0, head][alive].double().norm(dim=-1)
        return torch.where(outside, math.inf, shares * norms)

    return rule


def lagkv(lag, sinks):
    def spread(states, chunk, after):
        low, high = states[after].amin(0), states[after].amax(0)
        return ((states[chunk] - low) / (high - low)).std(-1).softmax(0)

    def rule(rows, alive, head, seen, memory):
        ranks, chunk = memory[head].setdefault("ranks", {}), 0
        while (end := sinks + (chunk + 2) * lag) <= seen:
            own, after = (
                [p for p in alive if start <= p < start + lag]
                for start in (end - 2 * lag, end - lag)
            )
            if own and not ranks.keys() & set(own):
                both = [inputs()[1][0, head], values()[0, head].double()]
                score = sum(spread(states, own, after) for states in both)
                order = sorted(range(len(own)), key=lambda j: float(score[j]))
                ranks |= {own[j]: lag - len(own) + place for place, j in enumerate(order)}
            chunk += 1
        return [math.inf if p < sinks else ranks.get(p, lag) for p in alive]

    return rule


@pytest.mark.parametrize(
    ("policy", "settings", "budget", "rule"),
    [
        ("h2o", {}, 20, h2o(20)),
        ("h2o", {}, 7, h2o(7)),
        ("h2o_age", {}, 20, h2o_age(20)),
        ("l2_norm", {}, 20, l2_norm),
        ("l2_norm", {}, 0.25, l2_norm),
        ("tova", {}, 20, tova),
        ("snapkv", {}, 24, snapkv),
        ("keydiff", {}, 20, keydiff),
        ("keydiff", {}, 0.25, keydiff),
        ("vatp", {}, 20, vatp(20, 4)),
        ("vatp", {"sinks": 0}, 9, vatp(9, 0)),
        ("criticalkv", {}, 26, criticalkv(26, 16, 0.5)),
        ("criticalkv", {"observe": 4, "first_stage": 0.2}, 19, criticalkv(19, 4, 0.2)),
        ("criticalkv", {"observe": 4, "first_stage": 1.0}, 19, criticalkv(19, 4, 1)),
        ("expected_attention", {}, 20, expected_attention(64, 4)),
        ("expected_attention", {"observe": 9, "sinks": 0}, 0.25, expected_attention(9, 0)),
        ("lagkv", {"lag": 8}, 28, lagkv(8, 4)),
        ("lagkv", {"lag": 5, "sinks": 2}, 30, lagkv(5, 2)),
        # Chunks of which an earlier update left little.
        ("lagkv", {"lag": 8}, 14, lagkv(8, 4)),
        ("pyramidkv", {}, 24, snapkv),
        ("recency", {}, 20, recency(4)),
        ("recency", {"sinks": 0}, 20, recency(0)),
    ],
)
def test_policy_keeps_what_its_definition_keeps(policy, settings, budget, rule):
    assert kept_by(get_policy(policy, **settings), budget) == replay(rule, budget)


def test_sinks_leave_room_for_the_newest_token_while_a_fraction_is_small():
    updates = kept_by(get_policy("recency"), 0.1)
    # Of 4, 7 and 10 tokens at 32, 64 and 96: all sinks stay that did at the first update.
    assert updates[0] == [[0, 1, 2, 31]] * HEADS
    assert updates[1] == [[0, 1, 2, 60, 61, 62, 63]] * HEADS
    assert updates[2] == [[0, 1, 2, *range(89, 96)]] * HEADS
    assert kept_by(get_policy("recency"), 0.01)[-1] == [[95]] * HEADS


@pytest.mark.parametrize(
    ("sinks", "budget", "kept"),
    [
        (4, 1, [95]),
        (4, 2, [0, 95]),
        (4, 4, [0, 1, 2, 95]),
        (4, 5, [0, 1, 2, 3, 95]),
        (9, 3, [0, 1, 95]),
        (0, 2, [94, 95]),
    ],
)
def test_the_newest_token_stays_whatever_the_sinks_are(sinks, budget, kept):
    assert kept_by(get_policy("recency", sinks=sinks), budget)[-1] == [kept] * HEADS


def test_fastgen_keeps_the_cheapest_set_that_recovers_enough_attention():
    first, recent, heavy, recovery = 4, 0.3, 0.3, 0.8

    def members(rows, alive, head, seen, memory):
        sums = accumulated(rows, alive, head, memory)
        total = sum(sums)
        order = sorted(range(len(alive)), key=lambda j: -sums[j])
        is_heavy = {j for rank, j in enumerate(order) if rank < heavy * seen}
        a = {j for j, p in enumerate(alive) if p < first}
        b = {j for j, p in enumerate(alive) if seen - 1 - p < recent * seen}
        for chosen in (a, a | b, a | is_heavy, a | b | is_heavy):
            if sum(sums[j] for j in chosen) / total >= recovery:
                return chosen | {len(alive) - 1}
        return set(range(len(alive)))

    def rule(*args):
        chosen = members(*args)
        sizes.append(len(chosen))
        return [0.0 if j in chosen else -1.0 for j in range(len(args[1]))]

    sizes: list[int] = []
    expected, original = [], sorted
    query, key = inputs()
    alive, memory = [[] for _ in range(HEADS)], [{} for _ in range(HEADS)]
    for update in range(UPDATES):
        start, seen = update * N_UP, (update + 1) * N_UP
        for head in range(HEADS):
            alive[head] += range(start, seen)
            tokens = torch.tensor(alive[head])
            queries = query[0, head * GROUPS : (head + 1) * GROUPS, start:seen]
            logits = queries @ key[0, head][tokens].T * SCALE
            future = tokens[None] > torch.arange(start, seen)[:, None]
            rows = logits.masked_fill(future, -torch.inf).softmax(-1).mean(0)
            scores = rule(rows, alive[head], head, seen, memory)
            alive[head] = [p for p, s in zip(alive[head], scores) if s >= 0]
        expected.append([original(a) for a in alive])
    policy = get_policy("fastgen", recovery=recovery)
    assert kept_by(policy) == expected
    assert min(sizes) < N_UP * UPDATES, "something should leave"


def test_fastgen_fills_a_budget_with_its_set_first():
    kept = kept_by(get_policy("fastgen"), 12)
    assert [[len(head) for head in update] for update in kept] == [[12, 12]] * 3
    assert all(head[:4] == [0, 1, 2, 3] for head in kept[0])


def test_random_keeps_a_uniform_subset_of_everything_seen():
    counts = torch.zeros(N_UP * UPDATES)
    for seed in range(200):
        for head in kept_by(get_policy("random", seed=seed), 24)[-1]:
            counts[head] += 1
    # 400 draws of 23 of 95 tokens (the newest always stays): mean 96.8, deviation 8.6.
    assert counts[-1] == 400
    thirds = [float(counts[a : a + 31].mean()) for a in (0, 32, 63)]
    assert thirds == pytest.approx([96.8] * 3, abs=5)


def test_random_is_nested_and_depends_on_seed_and_head():
    first, second = (kept_by(get_policy("random", seed=s), 8) for s in (0, 1))
    assert first == kept_by(get_policy("random"), 8)
    assert first != second
    assert first[0][0] != first[0][1]
    # What left never comes back, and what stays drew high.
    assert set(first[1][0]) - set(range(N_UP, 2 * N_UP)) <= set(first[0][0])


def test_full_keeps_everything():
    query, key = inputs()
    layer = PrunedLayer(Pruning(get_policy("full"), N_UP), 0)
    layer.update(key, key)
    layer.attend(query, key, key, None, SCALE)
    assert layer.kept() == [[N_UP * UPDATES] * HEADS]


def test_namm_scores_do_not_depend_on_the_population_it_rides_in():
    torch.manual_seed(0)
    config = NAMMConfig(features="log")
    vectors = torch.randn(3, config.size) * 0.3
    query, key = inputs()
    query, key = query.float(), key.float()

    def run(namm, copies):
        layer = PrunedLayer(Pruning(get_policy("namm", namm=namm), N_UP, 20), 0)
        many = key.repeat(copies, 1, 1, 1)
        layer.update(many, many)
        layer.attend(query.repeat(copies, 1, 1, 1), many, many, None, SCALE)
        return [head.tolist() for head in layer.positions()]

    together = run(NAMM(config, vectors), 3)
    alone = [run(NAMM(config, vector), 1) for vector in vectors]
    assert together == [head for heads in alone for head in heads]
    assert alone[0] != alone[1]


def test_long_uneven_heads_are_scored_as_in_one_padded_batch(monkeypatch):
    torch.manual_seed(2)
    config = NAMMConfig(features="log")
    namm = NAMM(config, torch.randn(config.size) * 0.3)
    query, key = inputs()

    def kept(short):
        monkeypatch.setattr(module, "SHORT", short)
        layer = PrunedLayer(Pruning(get_policy("namm", namm=namm), N_UP, trace=True), 0)
        layer.update(key, key)
        layer.attend(query, key, key, None, SCALE)
        return [[head.tolist() for head in kept] for _, kept in layer.kept_positions[0]]

    padded = kept(10_000)
    assert padded == kept(0)
    lengths = [len(head) for head in padded[0]]
    assert lengths[0] != lengths[1], "heads should differ"


def in_bytes(config=None, **settings):
    namm = NAMM.from_pretrained("universal") if config is None else NAMM(config)
    return get_policy("namm", namm=namm, **settings)


@pytest.mark.parametrize(
    ("dtype", "number"), [(torch.float32, 4), (torch.bfloat16, 2), (torch.float64, 8)]
)
def test_a_state_in_bytes_keeps_nearly_the_same_tokens_in_less(dtype, number):
    """But for double precision, where all is exact."""
    held = []
    for state in ("float", "byte"):
        layer = PrunedLayer(Pruning(in_bytes(state=state), N_UP, 24), 1)
        query, key = (tensor.to(dtype) for tensor in inputs())
        layer.attend(query, key, values().to(dtype), None, SCALE)
        size = layer.store.state.nbytes / (HEADS * 24 * 17)
        held.append((size, [set(head.tolist()) for head in layer.positions()]))
    (whole, before), (less, after) = held
    assert (whole, less) == (number, number if dtype == torch.float64 else 1)
    assert all(len(one & other) >= 22 for one, other in zip(before, after))


@pytest.mark.parametrize(
    "config",
    [
        NAMMConfig(features="rates"),
        NAMMConfig(features="log+slow"),
        NAMMConfig(features="relative_slow"),
        NAMMConfig(gamma=0.999),
        NAMMConfig(features="received:RECEIVED"),
    ],
)
def test_what_does_not_fit_into_bytes_is_refused(config):
    with pytest.raises(UserError, match="does not fit into bytes; use state float"):
        in_bytes(config, state="byte")
    in_bytes(config)


def test_an_unknown_policy_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="unknown policy 'h20'; did you mean h2o"):
        get_policy("h20")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("recency", {"sinks": -1}),
        ("snapkv", {"observe": 0}),
        ("snapkv", {"kernel": 4}),
        ("fastgen", {"recovery": 1.5}),
        ("fastgen", {"first": -1}),
        ("random", {"seed": None}),
        ("recency", {"sinks": True}),
        ("vatp", {"sinks": -1}),
        ("lagkv", {"sinks": -1}),
        ("lagkv", {"lag": 1}),
        ("expected_attention", {"sinks": -1}),
        ("expected_attention", {"observe": 0}),
        ("criticalkv", {"first_stage": 1.5}),
        ("criticalkv", {"kernel": 2}),
        ("pyramidkv", {"beta": 0}),
    ],
)
def test_settings_out_of_range_are_refused(name, settings):
    with pytest.raises(UserError, match=name):
        get_policy(name, **settings)


@pytest.mark.parametrize("name", sorted(set(POLICIES) - {"namm"}))
def test_every_policy_has_its_name(name):
    assert get_policy(name).name == name
