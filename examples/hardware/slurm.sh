#!/usr/bin/env bash
# Pre-training on several nodes under SLURM: sbatch examples/hardware/slurm.sh CONFIG [options of dmlm fit]
#   sbatch --nodes 2 examples/hardware/slurm.sh examples/paper/pretrain_mimic_cxr.yaml \
#     --config examples/paper/pretrain_manifest.yaml --data.path mine.csv
# DMLM_HARDWARE names the trainer file. HF_HUB_OFFLINE is set to 1: fetch pre-trained weights first (docs/hardware.md).
# One task per GPU; Lightning reads the rest from SLURM. data.batch_size is per process: nodes x 4 x batch_size pairs a step.
# Results lie in runs/slurm-JOB (for a configuration with a TensorBoardLogger and a checkpoint "last", as in examples/paper).
# A minute before its time limit the job queues itself again; then, and after a node has failed, it goes on from its last
# whole epoch (the newest last.ckpt there, which wins over a --ckpt of the options).
#SBATCH --job-name=dmlm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@60
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
set -euo pipefail
config="${1:?usage: sbatch slurm.sh CONFIG [options of dmlm fit]}"
shift
hardware="${DMLM_HARDWARE:-examples/hardware/v100x4_pcie.yaml}"   # 4 GPUs a node, as --ntasks-per-node and --gres say
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
results="runs/slurm-$SLURM_JOB_ID"
last="$(find "$results" -name last.ckpt -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d ' ' -f 2- || true)"
trap 'echo "nearly out of time: job $SLURM_JOB_ID is queued again"; scontrol requeue "$SLURM_JOB_ID"' USR1
# srun does not take over how many cores a task gets; the signal goes to this script and not to the tasks
srun --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
  dmlm fit --config "$config" --trainer "$hardware" --trainer.num_nodes "$SLURM_JOB_NUM_NODES" \
  --trainer.logger.init_args.save_dir "$results" "$@" ${last:+--ckpt "$last"} &
step=$!
status=0
wait "$step" || status=$?
if kill -0 "$step" 2>/dev/null; then   # the signal ended the waiting, not the step
  status=0
  wait "$step" || status=$?
fi
exit "$status"
