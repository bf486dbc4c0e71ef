#!/usr/bin/env bash
# A Ray cluster in one SLURM job, and a command on it. Submit it from a folder that all nodes share, with the
# environment that has xner-ray active; options of sbatch come before the script and win over those below:
#   sbatch --nodes=4 --gpus-per-node=1 cluster/slurm.sh xner-ray project jobs/nllb.yaml runs/nllb
# The exit status is the command's. Before the time limit the job stops the command and requeues itself; requeued by
# that, by a preemption or by you, the same command resumes the same run. A node that fails is left out.
# Nodes with GPUs need NVIDIA's driver 580 or newer and no V100 (torch 2.13 is a build for CUDA 13); CTranslate2 needs
# the extra ctranslate2-cuda there.
#SBATCH --job-name=xner-ray
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --no-kill
#SBATCH --open-mode=append
set -euo pipefail

fail() {
  echo "slurm.sh: $*" >&2
  exit 2
}
(($# > 0)) || fail "usage: sbatch [OPTION ...] cluster/slurm.sh COMMAND [ARGUMENT ...]"
[[ -n ${SLURM_JOB_ID:-} ]] || fail "no SLURM_JOB_ID: submit this script with sbatch"
[[ -n ${SLURM_CPUS_PER_TASK:-} ]] || fail "no SLURM_CPUS_PER_TASK: submit with --cpus-per-task=CPUS_OF_A_NODE"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_ip=$(hostname -I | awk '{print $1}') # the batch script runs on the first node
port=$((20000 + SLURM_JOB_ID % 5000 * 2))
logs=/tmp/xner-ray-$SLURM_JOB_ID # on each node; short, because Ray puts sockets there
shared=$SLURM_SUBMIT_DIR/.xner-ray-$SLURM_JOB_ID
steps=()
child=
signal=

# Only what was started here: the steps by their process ids, and this job's token
clean_up() {
  ((${#steps[@]} == 0)) || kill -TERM "${steps[@]}" 2> /dev/null || true
  wait
  steps=()
  rm -rf -- "$shared"
}
trap clean_up EXIT

# Bash runs a trap when the foreground command ends, so what may take long runs in the background.
# shellcheck disable=SC2329 # by the traps
stop() {
  signal=$1
  [[ -z $child ]] || kill -TERM "$child" 2> /dev/null || true
}
trap 'stop USR1' USR1 # the time limit is near
trap 'stop TERM' TERM # cancelled or preempted

# Run a command to its end, also through signals, and return its status
run() {
  local status=0
  [[ -z $signal ]] || return 143
  "$@" &
  child=$!
  wait "$child" || status=$?
  while kill -0 "$child" 2> /dev/null; do
    status=0
    wait "$child" || status=$?
  done
  child=
  return "$status"
}

(
  umask 077
  mkdir -p -- "$shared"
  head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' > "$shared/token"
)
unset RAY_ADDRESS RAY_AUTH_TOKEN # of another cluster; they would come first
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$shared/token
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # the command has ended when nodes are stopped
ulimit -n "$(ulimit -H -n)"

# start_node NAME OPTION ...: one step a node, so that losing one ends no other
start_node() {
  srun --nodes=1 --ntasks=1 --nodelist="$1" --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    ray start "${@:2}" --block --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" \
    --temp-dir="$logs" --disable-usage-stats &
  steps+=($!)
}

# shellcheck disable=SC2329 # through run
wait_for_head() {
  for ((second = 0; second < 300; second++)); do
    (exec 3<> "/dev/tcp/$head_ip/$port") 2> /dev/null && return
    kill -0 "${steps[0]}" 2> /dev/null || break
    sleep 1
  done
  echo "slurm.sh: Ray's head did not start on ${nodes[0]} ($head_ip:$port); its logs are in $logs there" >&2
  return 1
}

# A recipe that wants more than is there is refused at once, so all nodes come first.
# shellcheck disable=SC2329 # through run
wait_for_nodes() {
  python - "$head_ip:$port" "${#nodes[@]}" << 'PYTHON'
import sys
import time

import ray

address, wanted = sys.argv[1], int(sys.argv[2])
ray.init(address=address, log_to_driver=False, logging_level="ERROR")
deadline = time.monotonic() + 300
while (there := sum(node["Alive"] for node in ray.nodes())) < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"slurm.sh: {there} of {wanted} nodes joined Ray within 300 s")
    time.sleep(1)
PYTHON
}

on_cluster() {
  start_node "${nodes[0]}" --head --node-ip-address="$head_ip" --port="$port" \
    --ray-client-server-port="$((port + 1))" --include-dashboard=false
  run wait_for_head || return
  for node in "${nodes[@]:1}"; do
    start_node "$node" --address="$head_ip:$port"
  done
  run wait_for_nodes || return
  RAY_ADDRESS=$head_ip:$port run "$@"
}

status=0
on_cluster "$@" || status=$?
clean_up
if [[ $signal == USR1 ]]; then
  echo "slurm.sh: the time limit is near; requeued, the same command goes on" >&2
  exec scontrol requeue "$SLURM_JOB_ID"
fi
((status != 0)) || for node in "${nodes[@]}"; do
  srun --nodes=1 --ntasks=1 --nodelist="$node" rm -rf -- "$logs"
done
exit "$status"
