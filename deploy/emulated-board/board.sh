#!/usr/bin/env bash
# An aarch64 Debian that this machine emulates and that answers to ssh: a board without a board.
#
# Its programs are real aarch64 programs, run by qemu; its ssh server is this machine's own, which
# locks each session into the board's folder. It says nothing about a real board's speed or GPU.
set -euo pipefail

readonly SUITE=bookworm
readonly MIRROR=http://deb.debian.org/debian
readonly PACKAGES=python3,openssh-client # openssh-client: ssh-keygen checks signatures there
# Newer builds of ONNX Runtime than 1.26 crash under qemu; boards lag behind the workstation anyway.
readonly WHEELS=(numpy==2.3.5 onnxruntime==1.23.2)
readonly PLATFORMS=(manylinux_2_28_aarch64 manylinux_2_27_aarch64 manylinux2014_aarch64)
readonly BINFMT=/proc/sys/fs/binfmt_misc
readonly WANTED="debootstrap qemu-user-static openssh-server openssh-client python3-pip"

usage() {
  cat <<'END'
usage: board.sh COMMAND [--dir DIR] [--cache DIR] [--port PORT]

commands:
  setup    make the board, unless it is there
  start    set it up and let it answer to ssh; prints how to reach it
  stop     end its ssh server; what lies on the board stays
  status   say whether it answers; exit 1 if not
  remove   stop it and delete it; the cache stays

options:
  --dir DIR     where the board lives (default: /var/lib/edgedistill-board)
  --cache DIR   where downloads are kept (default: /var/cache/edgedistill-board)
  --port PORT   port of 127.0.0.1 that it answers on (default: 2222)

The Python whose pip brings the packages is python3, or what PYTHON names.
exit codes: 0 done, 1 not running, 2 a wrong argument, 5 something is missing on this machine
END
}

misused() {
  echo "board.sh: $1" >&2
  usage >&2
  exit 2
}

unable() {
  echo "board.sh: $1" >&2
  exit 5
}

require_root() {
  [ "$(id -u)" = 0 ] || unable "Only root can make or start the board, this is user $(id -un). \
Run it with sudo."
}

require_programs() {
  local program
  for program in debootstrap qemu-aarch64-static sshd ssh-keygen ssh-keyscan "$python"; do
    command -v "$program" >/dev/null ||
      unable "$program is not on this machine. Install: apt-get install $WANTED"
  done
}

# sshd refuses to lock a session into a folder that others could exchange.
require_safe_parents() {
  local folder
  folder=$(realpath -m "$1")
  while [ "$folder" != / ]; do
    if [ -e "$folder" ] && [ -n "$(find "$folder" -maxdepth 0 \( ! -user root -o -perm /022 \))" ]
    then
      unable "$folder is not root's alone (others may write in it), so sshd would refuse the board. \
Choose another --dir."
    fi
    folder=$(dirname "$folder")
  done
}

# Let the kernel start aarch64 programs through qemu.
enable_emulation() {
  if [ ! -e "$BINFMT/register" ]; then
    mount -t binfmt_misc binfmt_misc "$BINFMT" 2>/dev/null ||
      unable "Cannot mount binfmt_misc at $BINFMT, so this machine cannot run aarch64 programs. \
Use a machine or a container that may mount (docker run --privileged)."
  fi
  [ ! -e "$BINFMT/qemu-aarch64" ] || return 0
  local rule=/usr/lib/binfmt.d/qemu-aarch64.conf
  [ -r "$rule" ] || unable "$rule is missing. Install: apt-get install qemu-user-static"
  cat "$rule" >"$BINFMT/register" ||
    unable "The kernel refused the rule in $rule, so it cannot run aarch64 programs."
}

recipe() {
  echo "1 $SUITE $PACKAGES ${WHEELS[*]}" # count up when what is made below changes
}

setup() {
  require_root
  require_programs
  require_safe_parents "$dir"
  enable_emulation
  if [ "$(cat "$root/etc/edgedistill-board" 2>/dev/null)" = "$(recipe)" ]; then
    return 0
  fi
  stop
  delete "$root"
  mkdir -p "$dir" "$cache"
  chmod 755 "$dir"
  local packed
  packed="$cache/$SUITE-arm64-$(recipe | sha256sum | head -c 12).tar.gz"
  local new="$root.new"
  delete "$new"
  if [ -f "$packed" ]; then
    mkdir "$new"
    tar -C "$new" --numeric-owner -xzf "$packed"
  else
    build "$new"
    tar -C "$new" --numeric-owner -czf "$packed.part" .
    mv "$packed.part" "$packed"
  fi
  try_out "$new"
  mv "$new" "$root"
}

try_out() {
  local works=yes
  mount -t proc proc "$1/proc"
  chroot "$1" python3 -c 'import numpy, onnxruntime' >"$dir/setup.log" 2>&1 || works=no
  umount "$1/proc"
  [ $works = yes ] || unable "ONNX Runtime does not start on the board; $dir/setup.log says why."
}

build() {
  local new=$1
  echo "Making an aarch64 Debian in $new ..." >&2
  mkdir -p "$cache/debs"
  debootstrap --arch=arm64 --variant=minbase --foreign --include="$PACKAGES" \
    --cache-dir="$(realpath "$cache/debs")" "$SUITE" "$new" "$MIRROR" >"$dir/setup.log" 2>&1 ||
    unable "debootstrap failed; $dir/setup.log says why. Check the network and try again."
  unpack_packages "$new"
  furnish "$new"
  "$python" -m pip install --quiet --no-deps --no-compile --only-binary=:all: \
    --cache-dir "$cache/pip" --python-version 3.11 --implementation cp \
    "${PLATFORMS[@]/#/--platform=}" --root-user-action=ignore \
    --target "$new/usr/local/lib/python3.11/dist-packages" "${WHEELS[@]}" >&2 ||
    unable "pip could not bring ${WHEELS[*]} for aarch64. Check the network and try again."
  recipe >"$new/etc/edgedistill-board"
}

# Unpacked, not configured: configuring takes minutes under qemu, and nothing used here needs it.
unpack_packages() {
  local package
  for package in "$1"/var/cache/apt/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" |
      tar -C "$1" --skip-old-files --keep-directory-symlink -xf -
  done
  rm -rf "$1"/var/cache/apt/archives/*.deb "$1/debootstrap"
}

# What the packages' own scripts would have written, and the little of /sys that is asked for.
furnish() {
  cp "$1/usr/share/base-passwd/passwd.master" "$1/etc/passwd"
  cp "$1/usr/share/base-passwd/group.master" "$1/etc/group"
  rm -f "$1/proc" # debootstrap leaves a link there inside of a container
  mkdir -p "$1/proc" "$1/sys/devices/system/cpu"
  local list
  for list in possible present online; do # ONNX Runtime aborts without them
    echo "0-$(($(nproc) - 1))" >"$1/sys/devices/system/cpu/$list"
  done
  echo edgedistill-board >"$1/etc/hostname"
}

start() {
  setup
  if running; then
    [ "$(configured_port)" = "$port" ] ||
      unable "The board in $dir answers on port $(configured_port) already. Stop it first."
    tell
    return 0
  fi
  local shell
  shell=$(getent passwd root | cut -d: -f7)
  [ -x "$root$shell" ] || unable "root's shell is $shell, which the board does not have. \
Change it to /bin/bash."
  mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
  mkdir -p "$dir/ssh" /run/sshd
  make_key "$dir/ssh/host_key"
  make_key "$dir/ssh/id_ed25519"
  cp "$dir/ssh/id_ed25519.pub" "$dir/ssh/authorized_keys"
  write_server_settings
  "$(command -v sshd)" -f "$dir/ssh/sshd_config" -E "$dir/ssh/sshd.log" ||
    unable "sshd did not start; $dir/ssh/sshd.log says why. Is port $port taken?"
  write_client_settings
  wait_for_answer
  tell
}

make_key() {
  [ -f "$1" ] || ssh-keygen -q -t ed25519 -N '' -C edgedistill-board -f "$1"
}

write_server_settings() {
  cat >"$dir/ssh/sshd_config" <<END
ListenAddress 127.0.0.1
Port $port
HostKey $dir/ssh/host_key
PidFile $dir/ssh/sshd.pid
AuthorizedKeysFile $dir/ssh/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
AllowUsers root
UsePAM no
UseDNS no
ChrootDirectory $root
Subsystem sftp internal-sftp
MaxStartups 100
END
}

write_client_settings() {
  echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$dir/ssh/host_key.pub")" >"$dir/ssh/known_hosts"
  cat >"$dir/ssh/config" <<END
Host board
  HostName 127.0.0.1
  Port $port
  User root
  IdentityFile $dir/ssh/id_ed25519
  IdentitiesOnly yes
  UserKnownHostsFile $dir/ssh/known_hosts
  StrictHostKeyChecking yes
END
}

wait_for_answer() {
  local attempt
  for attempt in $(seq 100); do
    ssh -F "$dir/ssh/config" -o BatchMode=yes board true 2>"$dir/ssh/first.log" && return 0
    sleep 0.1
  done
  unable "The board does not answer after $attempt attempts: $(tail -1 "$dir/ssh/first.log"). \
$dir/ssh/sshd.log says more."
}

configured_port() {
  sed -n 's/^Port //p' "$dir/ssh/sshd_config"
}

running() {
  [ -s "$dir/ssh/sshd.pid" ] && kill -0 "$(cat "$dir/ssh/sshd.pid")" 2>/dev/null
}

tell() {
  echo "The board answers: ssh -F $dir/ssh/config board"
}

stop() {
  require_root
  if running; then
    kill "$(cat "$dir/ssh/sshd.pid")"
  fi
  rm -f "$dir/ssh/sshd.pid"
  if mountpoint -q "$root/proc"; then
    umount "$root/proc" || unable "Somebody still works on the board. End the sessions first."
  fi
}

status() {
  if running; then
    tell
  else
    echo "The board in $dir is not running. Start it: board.sh start --dir $dir"
    exit 1
  fi
}

# What is mounted there belongs to this machine and must outlive the board.
delete() {
  if grep -q " $(realpath -m "$1")/" /proc/mounts; then
    unable "Something is mounted below $1. Unmount it first: see /proc/mounts."
  fi
  rm -rf --one-file-system "$1"
}

remove() {
  stop
  delete "$root"
  delete "$root.new"
  rm -rf "$dir/ssh" "$dir/setup.log"
  rmdir --ignore-fail-on-non-empty "$dir" 2>/dev/null || true
}

command=${1:-}
[ $# -eq 0 ] || shift
dir=/var/lib/edgedistill-board
cache=/var/cache/edgedistill-board
port=2222
python=${PYTHON:-python3}
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || misused "$1 needs a value, or is unknown."
  case $1 in
    --dir) dir=$(realpath -m "$2") ;;
    --cache) cache=$(realpath -m "$2") ;;
    --port) port=$2 ;;
    *) misused "Unknown option $1." ;;
  esac
  shift 2
done
if ! [[ $port =~ ^[0-9]{1,5}$ && $port -ge 1 && $port -le 65535 ]]; then
  misused "A port is a number from 1 to 65535, got $port."
fi
root="$dir/rootfs"
PATH=$PATH:/usr/sbin:/sbin

case $command in
  setup | start | stop | status | remove) "$command" ;;
  -h | --help | help) usage ;;
  '') misused "No command." ;;
  *) misused "Unknown command $command." ;;
esac
