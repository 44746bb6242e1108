#!/bin/bash
# One run on all hosts of a Cloud TPU pod slice, one process each; from the root of the repository, on your machine:
#   TPU=name ZONE=us-central2-b experiments/launch/tpu_pod.sh create v4-32 tpu-ubuntu2204-base
#   TPU=name ZONE=us-central2-b experiments/launch/tpu_pod.sh install
#   TPU=name ZONE=us-central2-b experiments/launch/tpu_pod.sh run --config=configs/digits.py --workdir=/shared/runs/digits
#   TPU=name ZONE=us-central2-b experiments/launch/tpu_pod.sh stop
#   TPU=name ZONE=us-central2-b experiments/launch/tpu_pod.sh delete
# The workdir must be a folder that all hosts see, such as a Filestore share mounted at /shared. 'stop' has all save; the
# same 'run' goes on. JAX finds the hosts by itself.
set -euo pipefail
: "${TPU:?name of the TPU}" "${ZONE:?its zone}"

on_all() { gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"; }

action=${1:?create, install, run, stop or delete}
shift
case "$action" in
  create)
    gcloud compute tpus tpu-vm create "$TPU" --zone="$ZONE" --accelerator-type="$1" --version="$2"
    ;;
  install)
    git archive --prefix=kdjax/ --output=/tmp/kdjax.tar HEAD
    gcloud compute tpus tpu-vm scp /tmp/kdjax.tar "$TPU": --zone="$ZONE" --worker=all
    # The images have an older Python than kdjax needs; uv brings one.
    on_all 'tar -xf kdjax.tar && cd kdjax && pip install --user uv && PATH="$HOME/.local/bin:$PATH" &&
      uv venv --allow-existing --python 3.12 && uv pip install -e . "jax[tpu]"'
    ;;
  run)
    flags=$(printf '%q ' "$@")
    on_all "cd kdjax && echo \$\$ > run.pid && exec .venv/bin/python run.py $flags--config.run.runner=sharded --distributed=auto"
    ;;
  stop)
    on_all 'kill -TERM "$(cat kdjax/run.pid)"'
    ;;
  delete)
    gcloud compute tpus tpu-vm delete "$TPU" --zone="$ZONE" --quiet
    ;;
  *)
    echo "unknown action '$action'; there is: create, install, run, stop, delete" >&2
    exit 2
    ;;
esac
