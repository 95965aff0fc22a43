"""The live server: one engine behind the OpenAI Realtime protocol; `policies.server.serve.serve` runs it."""
