"""Start-up mechanisms of published systems, one file each, in closed form.

Pure functions of a few numbers, called while a spec is built and held against the engine in tests;
nothing here is compiled and nothing is measured.

| file | what it gives |
| --- | --- |
| `serverlessllm.py` | chunked load over several legs, estimate and choice of a route |
| `pipeswitch.py` | layers computed while later ones are copied, optimal grouping |
| `catalyzer.py` | cold boot, restore from an image, zygote, sandbox fork: time and memory |
| `sabre.py` | compressed snapshots, prefetched working set, break-even points |
| `rainbowcake.py` | layers with a lifetime each: lifetime, level at an age, expected start-up |
| `pagurus.py` | idle test, what an idle container can be lent to, time of a lent start |
| `tetris.py` | bytes of models that share tensors, with reference counts |
| `torpor.py` | late binding: run in place, copy from a peer GPU, or swap in from the host |
| `arguments.py` | range checks of the arguments, the page size |

Units: seconds, GiB, GiB/s throughout.
"""
