"""The `aiqueue` command: what administrators and users type, and the local harness.

Purpose: `main` gathers the commands; each has a module (`apply`, `get`, `explain`, `delete`, `db`, `dev`, ...) that reads
options and says what happened. `listings` and `explanation` turn what the ledger holds into rows, documents and text (and
`foresight` what the engine makes of it), `printers` write those, `ledger` opens the database that the environment names, `exits` knows exit codes and sentences.

Invariants:
- data goes to stdout, messages to stderr; the exit code says what happened (`exits.Exit`);
- a failure on purpose (`AiqueueError`) is a sentence, never a traceback; what is no AiqueueError is a bug and shows itself;
- no secret is read from the command line or printed: the ledger's URL comes from AIQUEUE_DATABASE_URL and is never repeated;
- asking for help imports neither Kubernetes nor database libraries;
- the harness names servers by AIQUEUE_TEST_ variables only, and refuses those that are not marked for tests.

Failure modes: a ledger that is away ends a command with exit code 3; only `get --watch` tries again, a bounded number of
times with a growing pause.
"""
