"""The output store: schema, template, ledger, writer."""
