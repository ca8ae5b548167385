"""The benchmarks. `rows` has the one row that all of them write, `protocol` their frozen settings; each experiment has a file.

- `reconstruction` measures what attacks do to the reconstructions and the latents of a VAE.
- `editing` measures whether edits of attacked photographs are good again, the paper's main claim.
- `poisoning` measures whether poisoned training images take hold in a fine-tuned pipeline.
- `mimicry` measures whether an artist's style can be learnt from protected pictures.
- `hardening` measures how robustness grows with the cost of hardening.
"""
