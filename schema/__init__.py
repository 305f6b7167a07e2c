"""The JSON Schemas, installed as `runner.schema`. Read them through `runner.resources`."""
