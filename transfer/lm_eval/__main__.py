"""The harness's own command line, which then knows the model `transfer`.

    python -m transfer.lm_eval --model transfer --tasks hellaswag \
        --model_args pretrained=smollm2-135m,policy=namm:recall,budget=0.25

Releases after 0.4.13 find the model by its entry point in `lm_eval.models`, and with them
`lm_eval --model transfer` is enough; 0.4.13 looks at no entry points.
"""

import sys

from transfer.errors import UserError


def main() -> None:
    """Run it.

    Raises:
        UserError: it is not installed, or the model was told something that does not fit.
    """
    try:
        # Without them the registry would have this model alone.
        import lm_eval.models  # noqa: F401  # pyright: ignore[reportMissingImports]
        from lm_eval.__main__ import cli_evaluate  # pyright: ignore
        from lm_eval.api.registry import model_registry  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise UserError(
            f"lm-evaluation-harness is not there (no module {error.name});"
            ' pip install "namm-transfer[lm-eval]"'
        ) from error
    if "transfer" not in model_registry:
        model_registry.register("transfer", target="transfer.lm_eval.model:PrunedLanguageModel")
    cli_evaluate()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
