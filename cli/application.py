"""The command line as a whole: which commands there are and how they are grouped."""

from __future__ import annotations

import typer

from cli.commands import config, dispatchers, endpoints, environments, events, jobs, migrate, queue, run, runs, tokens


def _exit_by(result: object, **_: object) -> None:
    """End with the exit code that a command returned; None means that all went well."""
    if isinstance(result, int) and result:
        raise typer.Exit(result)


application = typer.Typer(
    name="kongflow",
    help=(
        "Registers, pings and indexes endpoints that speak the trigger.dev v2 protocol, takes in events and says what "
        "they start; runs the services that do it."
    ),
    epilog=(
        "Exit codes: 0 done; 1 refused or failed; 2 wrong command line or setting; 3 the server or the database cannot "
        "be reached; 130 interrupted; 141 nobody reads the output any more."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    result_callback=_exit_by,
)
application.command("up")(run.up)
application.command("demo")(run.demo)
application.command("serve")(run.serve)
application.command("work")(run.work)
application.add_typer(migrate.commands, name="migrate")
application.add_typer(config.commands, name="config")
application.add_typer(tokens.commands, name="tokens")
application.add_typer(environments.commands, name="environments")
application.add_typer(endpoints.commands, name="endpoints")
application.add_typer(jobs.commands, name="jobs")
application.add_typer(events.commands, name="events")
application.add_typer(dispatchers.commands, name="dispatchers")
application.add_typer(runs.commands, name="runs")
application.add_typer(queue.commands, name="queue")
