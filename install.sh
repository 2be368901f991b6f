#!/usr/bin/env bash
# Installs into .venv and tells what it does: ./install.sh cpu|cuda|auto INDEX PIP_ARGUMENTS…
set -euo pipefail
torch=$1 index=$2
shift 2
if [ "$torch" = auto ]; then
  if command -v nvidia-smi > /dev/null; then torch=cuda; else torch=cpu; fi
fi
extra=()
if [ "$torch" = cpu ] && [ "$(uname -s)" = Linux ]; then
  if .venv/bin/python - "$index" << 'PYTHON'
import sys, urllib.request
try:
    urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=5).close()
except OSError:
    sys.exit(1)
PYTHON
  then
    extra=(--extra-index-url "$index")
    echo "installing $* with torch for CPUs from $index (0.2 GB to fetch, 1.6 GB on disk)"
  else
    echo "installing $*; $index does not answer, so pip takes the torch that it finds (PyPI's brings CUDA: 6 GB on disk)"
  fi
else
  echo "installing $* with torch from PyPI (on Linux with CUDA: 3 GB to fetch, 6 GB on disk)"
fi
began=$SECONDS
.venv/bin/python -m pip install --progress-bar off --constraint constraints.txt "${extra[@]}" "$@" |
  { grep --line-buffered -E '^ *Downloading .*[MG]B|^Successfully installed' | cut -c1-100 || true; }
echo "installed in $((SECONDS - began)) s: .venv holds $(du -sh .venv | cut -f1)"
