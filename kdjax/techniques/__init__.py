"""Distillation techniques: one file per paper, each a term of the objective (`kdjax.techniques.base.Term`)."""
