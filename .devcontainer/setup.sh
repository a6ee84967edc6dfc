#!/usr/bin/env bash
# Makes notebook 02 ready to run: the pinned packages, then the steps that it reads. More KEY=VALUE words change the run.
set -euo pipefail
cd "$(dirname "$0")/.."
make setup
make reproduce ONLY=02_multiclass_roc "$@"
