"""The ledger: configuration, queue, decisions and usage as rows in Postgres.

To be completed below.
"""
