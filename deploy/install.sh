#!/bin/sh
# Sets up the systemd service that answers with the current release. Run it on the board, as root,
# after the first deployment. It may be run again: what is as it should be is left alone.
set -eu

usage() {
  cat <<'TEXT'
usage: install.sh --root DIR [--user USER] [--python PYTHON]
                  [--listen ADDRESS | --folder DIR |
                   --mqtt BROKER --subscribe TOPIC --topic TOPIC [--password FILE]]
                  [--options "WORDS"] [--dry-run | --remove]

Each kind is a service of its own: edgedistill-predict for a socket, edgedistill-predict-folder,
edgedistill-predict-mqtt. --remove removes the one that the options name.

  --root DIR        the releases, as `edgedistill deploy --root` names it
  --user USER       who runs the service (default: the owner of DIR)
  --python PYTHON   that has NumPy and the runtime (default: the one that validated
                    the current release, else python3)
  --listen ADDRESS  unix:PATH or HOST:PORT (default: unix:/run/edgedistill/predict.sock). Clients
                    of a port need the token in /etc/edgedistill/token, which is made if missing
  --folder DIR      files that are moved in there, which USER may write
  --mqtt BROKER     [mqtts://][USER@]HOST[:PORT]; series from one topic, answers to the other
  --password FILE   holds the broker's password, kept in /etc/edgedistill/mqtt.env for root alone
  --options WORDS   more words for `predict`, such as "--saliency"
  --dry-run         print the unit and what would be done, and do nothing
  --remove          stop the service and remove it; the releases stay

environment:
  DESTDIR           write below this folder and leave systemd alone, to make an image

exit codes: 2 a wrong option, 5 something is missing on this machine
TEXT
}

here=$(cd "$(dirname "$0")" && pwd)
secrets=/etc/edgedistill
root='' user='' python='' listen='' options='' action=install
folder='' mqtt='' subscribe='' topic='' password=''

fail() {
  code=$1
  shift
  echo "error: $*" >&2
  exit "$code"
}

while [ $# -gt 0 ]; do
  case $1 in
    --root | --user | --python | --listen | --options | --folder | --mqtt | --subscribe | --topic | \
      --password)
      [ $# -ge 2 ] || fail 2 "$1 needs a value. See --help."
      case $1 in
        --root) root=$2 ;;
        --user) user=$2 ;;
        --python) python=$2 ;;
        --listen) listen=$2 ;;
        --options) options=$2 ;;
        --folder) folder=$2 ;;
        --mqtt) mqtt=$2 ;;
        --subscribe) subscribe=$2 ;;
        --topic) topic=$2 ;;
        --password) password=$2 ;;
      esac
      shift 2
      ;;
    --dry-run | --remove) action=${1#--} && shift ;;
    --help) usage && exit 0 ;;
    *) fail 2 "$1 is no option. See --help." ;;
  esac
done

case "${listen:+l}${folder:+f}${mqtt:+m}" in
  '' | l) kind='' listen=${listen:-unix:/run/edgedistill/predict.sock} ;;
  f) kind=-folder ;;
  m) kind=-mqtt ;;
  *) fail 2 "--listen, --folder and --mqtt exclude each other: each is a service of its own." ;;
esac
name=edgedistill-predict$kind.service
target=${DESTDIR:-}/etc/systemd/system/$name

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

case "${mqtt:+m}${subscribe:+s}${topic:+t}" in
  '' | mst) ;;
  *) fail 2 "--mqtt, --subscribe and --topic belong together. Give all three." ;;
esac
[ -z "$password" ] || [ -n "$mqtt" ] || fail 2 "--password is of a broker. Add --mqtt."
[ -z "$password" ] || [ -r "$password" ] || fail 5 "$password cannot be read."
[ -z "$folder" ] || [ -d "$folder" ] || fail 5 "There is no folder $folder. Create it, for USER to write."
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
for word in "$root" "$python" "$listen" "$folder" "$mqtt" "$subscribe" "$topic" "$options"; do
  case $word in # what sed or systemd would read otherwise
    *[\&\|\\%\"\'\$]* | *'
'*) fail 2 "'$word' holds a character that a unit cannot take. Choose another." ;;
  esac
done
case "$root$python$listen$folder$mqtt$subscribe$topic" in
  *' '*) fail 2 "Blanks cannot be in names of files, addresses and topics here. Choose others." ;;
esac
case "$listen" in
  '' | unix:*) token='' ;;
  *) token=$secrets/token ;;
esac
if [ -n "$folder" ]; then
  folder=$(cd "$folder" && pwd)
  source="--folder $folder"
elif [ -n "$mqtt" ]; then
  source="--mqtt $mqtt --subscribe $subscribe --topic $topic"
else
  source="--listen $listen${token:+ --token $token}"
fi

unit=$(sed -e "s|@ROOT@|$root|g" -e "s|@USER@|$user|g" -e "s|@PYTHON@|$python|g" \
  -e "s|@SOURCE@|$source|g" -e "s|@OPTIONS@|$options|g" -e "s|@FOLDER@|$folder|g" \
  -e 's| *$||' "$here/edgedistill-predict.service")

if [ "$action" = dry-run ]; then
  printf '%s\n' "$unit"
  echo "Would write $target, enable the service and start it." >&2
  exit 0
fi

write_secret() { # its path, its owner; its content comes from the input
  mkdir -p "$(dirname "$1")"
  rm -f "$1.partial"
  (umask 077 && cat >"$1.partial")
  [ "$(id -u)" -ne 0 ] || chown "$2" "$1.partial"
  mv "$1.partial" "$1"
}

check_machine
if [ -n "$token" ] && [ ! -e "${DESTDIR:-}$token" ]; then
  head -c 32 /dev/urandom | base64 | write_secret "${DESTDIR:-}$token" "$user"
  echo "Made $token, which clients need."
fi
if [ -n "$password" ]; then
  sed -e '1!d' -e 's|[\\"]|\\&|g' -e 's|.*|EDGEDISTILL_MQTT_PASSWORD="&"|' "$password" |
    write_secret "${DESTDIR:-}$secrets/mqtt.env" root
fi
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
