"""The soak: many triggers, several ingress processes on one ledger, kills at random, then a checker.

`python3 dev.py soak --ledger sqlite` runs it in full; `--small` is what the tests run.
"""
