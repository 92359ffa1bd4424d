#!/bin/sh
# Sets up the systemd service that answers with the current release. Run it on the board, as root,
# after the first deployment. It may be run again: what is as it should be is left alone.
set -eu

usage() {
  cat <<'TEXT'
usage: install.sh --root DIR [--user USER] [--python PYTHON] [--listen ADDRESS]
                  [--options "WORDS"] [--dry-run | --remove]

  --root DIR        the releases, as `edgedistill deploy --root` names it
  --user USER       who runs the service (default: the owner of DIR)
  --python PYTHON   that has NumPy and the runtime (default: the one that validated
                    the current release, else python3)
  --listen ADDRESS  unix:PATH or HOST:PORT (default: unix:/run/edgedistill/predict.sock)
  --options WORDS   more words for `predict`, such as "--saliency"
  --dry-run         print the unit and what would be done, and do nothing
  --remove          stop the service and remove it; the releases stay

environment:
  DESTDIR           write below this folder and leave systemd alone, to make an image

exit codes: 2 a wrong option, 5 something is missing on this machine
TEXT
}

name=edgedistill-predict.service
here=$(cd "$(dirname "$0")" && pwd)
target=${DESTDIR:-}/etc/systemd/system/$name
root='' user='' python='' listen=unix:/run/edgedistill/predict.sock options='' action=install

fail() {
  code=$1
  shift
  echo "error: $*" >&2
  exit "$code"
}

while [ $# -gt 0 ]; do
  case $1 in
    --root | --user | --python | --listen | --options)
      [ $# -ge 2 ] || fail 2 "$1 needs a value. See --help."
      case $1 in
        --root) root=$2 ;;
        --user) user=$2 ;;
        --python) python=$2 ;;
        --listen) listen=$2 ;;
        --options) options=$2 ;;
      esac
      shift 2
      ;;
    --dry-run | --remove) action=${1#--} && shift ;;
    --help) usage && exit 0 ;;
    *) fail 2 "$1 is no option. See --help." ;;
  esac
done

systemd() { # with an image, there is no systemd to tell
  [ -n "${DESTDIR:-}" ] || systemctl "$@"
}

check_machine() {
  [ -n "${DESTDIR:-}" ] && return
  command -v systemctl >/dev/null || fail 5 "This machine has no systemd. Start predict otherwise."
  [ "$(id -u)" -eq 0 ] || fail 5 "Only root may change services. Run it with sudo."
}

if [ "$action" = remove ]; then
  check_machine
  if [ ! -e "$target" ]; then
    echo "There is no $target."
    exit 0
  fi
  systemd disable --now "$name"
  rm -f "$target"
  systemd daemon-reload
  echo "Removed $target."
  exit 0
fi

[ -n "$root" ] || fail 2 "Name the folder of the releases with --root. See --help."
[ -d "$root" ] || fail 5 "There is no folder $root. Deploy a bundle first."
root=$(cd "$root" && pwd)
program=$root/current/edgedistill-device.pyz
[ -e "$program" ] || fail 5 "There is no $program. Deploy a bundle first."
user=${user:-$(stat -c %U "$root")}
id "$user" >/dev/null 2>&1 || fail 5 "There is no user $user. Create it, or name another with --user."
python=${python:-$(readlink "$root/current/python" || echo python3)}
python=$(command -v "$python") || fail 5 "There is no such Python. Name one with --python."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  fail 5 "$python is older than 3.10. Name a newer one with --python."
for word in "$root" "$python" "$listen" "$options"; do
  case $word in # what sed or systemd would read otherwise
    *[\&\|\\%\"\'\$]* | *'
'*) fail 2 "'$word' holds a character that a unit cannot take. Choose another." ;;
  esac
done
case "$root$python$listen" in
  *' '*) fail 2 "Blanks cannot be in $root, $python or $listen. Choose others." ;;
esac

unit=$(sed -e "s|@ROOT@|$root|g" -e "s|@USER@|$user|g" -e "s|@PYTHON@|$python|g" \
  -e "s|@LISTEN@|$listen|g" -e "s|@OPTIONS@|$options|g" -e 's| *$||' "$here/$name")

if [ "$action" = dry-run ]; then
  printf '%s\n' "$unit"
  echo "Would write $target, enable the service and start it." >&2
  exit 0
fi

check_machine
if [ -e "$target" ] && [ "$(cat "$target")" = "$unit" ]; then
  echo "$target is as it should be."
  systemd enable --now "$name"
  exit 0
fi
mkdir -p "$(dirname "$target")"
partial=$target.partial
trap 'rm -f "$partial"' EXIT
printf '%s\n' "$unit" >"$partial"
chmod 644 "$partial"
mv "$partial" "$target"
systemd daemon-reload
systemd enable "$name"
systemd restart "$name"
echo "Wrote $target. Look at it with: systemctl status $name"
