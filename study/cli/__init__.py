"""The commands: `study.cli.main` says what each takes, the other modules what it does."""
