"""Many LLM replicas behind a router: one event loop over replica engines.

`replay.llm_fleet` is the entry point; docs/llm.md says what is modelled.
"""
