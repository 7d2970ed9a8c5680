#!/usr/bin/env bash
# Pre-training on several nodes under SLURM: sbatch examples/hardware/slurm.sh CONFIG [options of dmlm fit]
#   sbatch --nodes 2 examples/hardware/slurm.sh examples/paper/pretrain_mimic_cxr.yaml \
#     --config examples/paper/pretrain_manifest.yaml --data.path mine.csv
# DMLM_HARDWARE names the trainer file. HF_HUB_OFFLINE is set to 1: fetch pre-trained weights first (docs/hardware.md).
# One task per GPU; Lightning reads the rest from SLURM. data.batch_size is per process: nodes x 4 x batch_size pairs a step.
# Where the job is about to reach its time limit, Lightning saves and requeues it, and it goes on where it was.
#SBATCH --job-name=dmlm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gres=gpu:4
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=SIGUSR1@300
#SBATCH --requeue
#SBATCH --output=%x-%j.out
set -euo pipefail
config="${1:?usage: sbatch slurm.sh CONFIG [options of dmlm fit]}"
shift
hardware="${DMLM_HARDWARE:-examples/hardware/v100x4_pcie.yaml}"   # 4 GPUs a node, as --ntasks-per-node and --gres say
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
srun --kill-on-bad-exit=1 dmlm fit --config "$config" --trainer "$hardware" --trainer.num_nodes "$SLURM_JOB_NUM_NODES" "$@"
