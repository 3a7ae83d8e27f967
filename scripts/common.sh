# Shared by the scripts of this folder, which source it. It goes to the repository's root.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

say() { printf '%s\n' "$*"; }

die() {
  printf 'scripts/%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# step TITLE: a heading; the next step, or finish_step, says how long it took.
step() {
  finish_step
  step_start=$SECONDS
  printf '\n==> %s\n' "$*"
}

finish_step() {
  [[ -z ${step_start:-} ]] || printf '    (%d s)\n' $((SECONDS - step_start))
  step_start=
}

# as_root COMMAND...: by sudo, unless this is root already.
as_root() {
  if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

can_be_root() { [[ $EUID -eq 0 ]] || command -v sudo >/dev/null; }

# configure ARGUMENT...: makes or refreshes build/. LibTorch is looked for each time, so that the one that
# CMAKE_PREFIX_PATH or Torch_DIR names now is the one that is used.
configure() {
  say "Configuring build/"
  cmake --preset release --log-level=NOTICE -U 'LibTorch_*' "$@" >/dev/null
}

# export_libtorch_arguments ARGUMENT...: lets scripts/setup see a LibTorch that is named by CMake's own arguments.
export_libtorch_arguments() {
  local argument
  for argument in "$@"; do
    case $argument in
      -DCMAKE_PREFIX_PATH=* | -DCMAKE_PREFIX_PATH:*=*)
        argument=${argument#*=}
        export CMAKE_PREFIX_PATH="${argument//;/:}${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"
        ;;
      -DTorch_DIR=* | -DTorch_DIR:*=*) export Torch_DIR="${argument#*=}" ;;
    esac
  done
}
