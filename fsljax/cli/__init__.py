"""The console command `fsljax`: a module for each of its subcommands; the others are called from `main`."""
