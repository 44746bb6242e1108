"""From the command line to a config: what absl and ml_collections report is said in one line, with alternatives."""

from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from kdjax.names import UsageError, unknown


def parse(argv: list[str], values: flags.FlagValues, holder: Any) -> ConfigDict:
    """Parses the command line and returns the config that the flag `holder` holds.

    Raises:
      UsageError: an unknown flag or field, a value of another type, or words that are no flag.
    """
    try:
        rest = values(argv)
    except UsageError:
        raise
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UsageError(_reason(argv, error)) from error
    if rest[1:]:
        raise UsageError(f'unexpected {" ".join(rest[1:])!r}; flags look like --name=value')
    return holder.value


def name(argv: list[str]) -> str:
    """Name of the config file, for the default workdir."""
    given = [word.partition('=')[2] for word in argv if word.startswith('--config=')]
    return Path((given or ['digits'])[-1].partition(':')[0]).stem


def _reason(argv: list[str], error: Exception) -> str:
    return f'{type(error).__name__} {error}'
