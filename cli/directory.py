"""What `kongflow up` keeps in its directory for other commands to find."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.failures import USAGE, CommandError

DEFAULT_DIRECTORY: Final = ".kongflow"


@dataclass(frozen=True, slots=True)
class KeptState:
    """Reads the directory named by KONGFLOW_DIRECTORY; whatever is missing there is an empty text."""

    directory: Path

    @classmethod
    def of_this_shell(cls) -> KeptState:
        """Return the state of the directory that this shell's variables name."""
        return cls(Path(os.environ.get("KONGFLOW_DIRECTORY") or DEFAULT_DIRECTORY))

    def secret(self, name: str) -> str:
        """Return the content of one secret file, such as `service-token`."""
        try:
            return (self.directory / name).read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise CommandError(f"{self.directory / name} cannot be read: {why}.", exit_code=USAGE) from error

    def fact(self, name: str) -> str:
        """Return one entry of `development.json`, such as `server` or `environment_id`."""
        text = self.secret("development.json")
        if not text:
            return ""
        try:
            facts = dict(json.loads(text))
        except (ValueError, TypeError) as error:
            raise CommandError(
                f"{self.directory / 'development.json'} is no JSON object: start `kongflow up` again.", exit_code=USAGE
            ) from error
        return str(facts.get(name, ""))
