"""Transactions of the ledger, named in the domain's words."""
