"""The card of an evolved NAMM: what it is, how it was made, and what it reached."""

from pathlib import Path
from typing import Any

from transfer.adapters.control_names import control_model
from transfer.files import replacing
from transfer.namm.checkpoint import CARD_FILE, CARD_HEAD
from transfer.namm.network import NAMM


def write_card(folder: Path, namm: NAMM, run: dict[str, Any]) -> None:
    """Write `CARD.md` beside a saved NAMM.

    Args:
        folder: of the NAMM.
        namm: it.
        run: content of a finished run's `run.json`.
    """
    sections = [_introduction(namm, run), _making(run), _results(run), _versions(run)]
    with replacing(folder / CARD_FILE) as partial:
        partial.write_text("\n".join(sections), encoding="utf-8")


def _introduction(namm: NAMM, run: dict[str, Any]) -> str:
    config = namm.config
    known = {"bam": "backward attention memory", "mlp": "perceptron"}
    scorer = known.get(config.scorer, f"scorer {config.scorer}")
    return f"""{CARD_HEAD}# An evolved NAMM

{namm.vector.shape[-1]:,} parameters that score the tokens of any transformer's KV cache. `{config.features}` features,
a {scorer} of width {config.hidden}, gamma {config.gamma:.6g}. {_learned_from(run)}

    from transfer import NAMM, attach
    with attach(model, NAMM.from_pretrained("FOLDER OR HUB ID"), budget=0.25) as memory:
        model.generate(**inputs, cache=memory.new_cache())
"""  # noqa: E501


def _learned_from(run: dict[str, Any]) -> str:
    told, recorded = run["config"], _recorded(run)
    controls = {task: control_model(task) for task in told["tasks"]}
    played = [f"{model} ({task})" for task, model in controls.items() if model is not None]
    language = [task for task, model in controls.items() if model is None]
    models = [Path(name).name for name in told["models"]]
    parts = [f"on language, {_names(models)} with the tasks {_names(language)}"] if language else []
    parts += [f"on control, {_names(played)}"] if played else []
    if recorded:
        return (
            f"Evolved on the recorded attention\nof {_names(recorded)}; what was kept was chosen "
            f"{'; '.join(parts)}."
        )
    absent = "No video" if played else "No video and no control"
    return (
        f"Evolved {'; '.join(parts)}.\n{absent} took part, neither in the fitness nor in choosing "
        "what is kept."
    )


def _recorded(run: dict[str, Any]) -> list[str]:
    """The models whose attention was replayed, each once."""
    recordings = run.get("records", {}).values()
    names = (Path(model).name for each in recordings for model in each["config"]["models"])
    return list(dict.fromkeys(names))


def _making(run: dict[str, Any]) -> str:
    told, chosen = run["config"], run["results"][run["chosen"]]
    seconds = chosen["seconds"]
    parts = ", ".join(
        f"{name} {seconds[name] / seconds['total']:.0%}"
        for name in ("model", "features", "scoring", "simulator", "optimiser", "validation")
    )
    budgets = (
        f"budgets {_names(told['budget'])} shared by {_names(told['share'])}"
        if told["budget"]
        else "no budget"
    )
    recordings = [each["command"] for each in run.get("records", {}).values()]
    everything = dict.fromkeys((*recordings, *run["earlier_commands"], run["command"]))
    commands = "\n".join(f"    {command}" for command in everything)
    return f"""## How it was made

{commands}

- {told["search"]} search, sigma {told["sigma"]:g}: {told["generations"]} generations of {_candidates(told)}
{_read_a_generation(told)}
- {budgets}, {told["eviction"]} eviction, an update every {_names(told["update_interval"])} tokens
{_fitness(told)}
- {seconds["total"]:,.0f} s for seed {run["chosen"]}; workers: {parts}
"""  # noqa: E501


def _candidates(told: dict[str, Any]) -> str:
    return "one candidate" if told["search"] == "climb" else f"{told['population']} candidates"


def _read_a_generation(told: dict[str, Any]) -> str:
    if told.get("replay"):
        folders = _names([Path(folder).name for folder in told["replay"]])
        return f"- a generation replays {told['records']} records of the folders {folders}, in turn"
    return f"""- a generation reads {told["documents"]} fresh documents a model and task, of {_names(told["lengths"])} tokens;
  of a control task it plays {told["episodes"]} fresh episodes of at most {told["max_steps"]} steps"""  # noqa: E501


def _fitness(told: dict[str, Any]) -> str:
    validated = f"""answer probability - the full cache's (control: return over the target, - 1) + {told["likelihood_weight"]:g} x (log-likelihood of all
  tokens - the full cache's) - {told["keep_cost"]:g} x kept fraction"""  # noqa: E501
    if told.get("replay"):
        return f"""- fitness: how much less attention outputs, and with them the loss, change than under sinks and a recent window
- validation, of episodes of at most {told["max_steps"]} steps: {validated}"""  # noqa: E501
    return f"- fitness: {validated}"


def _results(run: dict[str, Any]) -> str:
    told = run["config"]
    rows = [
        f"| {seed}{' (this one)' if seed == run['chosen'] else ''} | {found['generation']} | "
        f"{found['which']} | {found['fitness']:.4f} | {found['probability']:+.4f} | "
        f"{found['likelihood']:+.4f} | {found['kept']:.1%} |"
        for seed, found in run["results"].items()
    ]
    return f"""## Validation

Every {told["validate_every"]} generations the search's mean and its best candidate were compared on
{told["validation_documents"]} held-out documents a model and task and {told["validation_episodes"]} episodes a control task, the same
throughout. The best of each seed:

| seed | generation | which | fitness | answer probability - full | log-likelihood - full | kept |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

It was chosen on these documents, so they flatter it; reports use others.
"""  # noqa: E501


def _versions(run: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in run["versions"].items()) + "\n"


def _names(values: list[Any]) -> str:
    return ", ".join(map(str, values))
