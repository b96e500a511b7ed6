"""A sweep file with comments: `pruneviz sweep --example`."""

from __future__ import annotations

EXAMPLE = """\
# Record it with: pruneviz sweep sweep.toml
# Paths and modules are looked for in the folder in which the command is started.

out = "data/sweep"  # one folder per run is made in it

# Runs of the reference experiment. Keys are the options of pruneviz record, with _ for -.
# Of lists every combination is recorded: here 2 networks x 2 measures x 2 targets x 2 seeds.
[[record]]
preset = "digits"
network = ["vgg13", "mobilenet_v1"]
measure = ["magnitude", "loss_preservation"]
rounds = 1
target = [0.5, 0.75]
seed = [0, 1]

# The same networks without pruning, to compare with. Further tables add further runs.
[[record]]
preset = "digits"
network = ["vgg13", "mobilenet_v1"]
baseline = true
seed = [0, 1]

# A training function of your own, as module:function. It is called once for every combination of
# its arguments: train(run_folder, width=8, lr=0.1, seed=0, epochs=2), and so on, 8 times. It
# records into the folder that it gets first, with pv.Recorder, and seeds its random numbers.
[[train]]
function = "my_training:train"
name = "small-w{width}-lr{lr}-s{seed}"  # of the run; default: function and all arguments
[train.arguments]
width = [8, 16]
lr = [0.1, 0.01]
seed = [0, 1]
epochs = 2  # an argument of this name is also the length of the progress
"""
