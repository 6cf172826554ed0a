"""One replica of a decoder LLM, iteration by iteration: its own compiled engine and calibration.

`replay.llm_replica` is the entry point; docs/llm.md says what is modelled.
"""
