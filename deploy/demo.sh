#!/usr/bin/env bash
# The main job on real containers, on one machine: three hosts, a service, a
# killed container, a rolling update. It needs bin/ built and Go; it installs
# what hosts need. Its cluster has a data directory and ports of its own, so
# that one of yours runs on. Everything is taken down at the end.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/bin:$PATH:/usr/sbin:/sbin"

root=()
if [ "$(id -u)" != 0 ]; then
  echo "demo: containers need root: using sudo"
  root=(sudo)
fi

bash deploy/deps.sh
if ! command -v curl >/dev/null; then
  echo "demo: installing curl"
  "${root[@]}" apt-get install -y -qq --no-install-recommends curl ca-certificates >/dev/null
fi
for program in plim plimd plim-agent; do
  [ -x "bin/$program" ] || { echo "demo: bin/$program is missing: run make build first" >&2; exit 1; }
done

work=$(mktemp -d /tmp/plimsoll-demo.XXXXXX)
data=$work/cluster
watcher=
failure=

step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
if [ ! -t 1 ]; then step() { printf '\n== %s\n' "$*"; }; fi
fail() { failure=$*; exit 1; }

finish() {
  code=$?
  trap - EXIT INT TERM
  set +e
  if [ -n "$watcher" ]; then kill "$watcher" 2>/dev/null; wait "$watcher" 2>/dev/null; fi
  if [ "$code" != 0 ]; then
    echo "demo: failed: ${failure:-the command above}" >&2
    plim service events web >&2 2>/dev/null
    plim task ls --all >&2 2>/dev/null
    for log in "$data"/logs/*.log; do
      [ -s "$log" ] && { echo "-- $(basename "$log")" >&2; tail -n 15 "$log" >&2; }
    done
  fi
  "${root[@]}" "$PWD/bin/plim" dev stop --data-dir "$data" >/dev/null 2>"$work/stop" || {
    grep -q 'no cluster is running' "$work/stop" || { cat "$work/stop" >&2; code=1; }
  }
  "${root[@]}" rm -rf "$work"
  [ "$code" = 0 ] && echo "demo: ok"
  exit "$code"
}
trap finish EXIT
trap 'failure=interrupted; exit 130' INT TERM

step "A cluster of three hosts on this machine"
"${root[@]}" "$PWD/bin/plim" dev --nodes 3 --detach --data-dir "$data" --port 0 --registry-port 0 --metrics-port 0 &
starting=$!

# The images are built meanwhile.
for v in 1 2; do
  go run ./e2e/sample/cmd/sampleimage -version "$v" -o "$work/sample-$v.tar" || fail "the sample image of version $v could not be built"
done
wait "$starting" || fail "the cluster did not start"
eval "$(plim dev env --data-dir "$data")"
plim instance ls

step "Two versions of a web service in the cluster's registry"
for v in 1 2; do plim image push "$work/sample-$v.tar" "sample:$v"; done

register() {
  cat >"$work/web-$1.json" <<JSON
{
  "family": "web",
  "containerDefinitions": [{
    "name": "web",
    "image": "registry.plimsoll.internal/sample:$1",
    "cpu": 64,
    "memory": 64,
    "essential": true,
    "portMappings": [{"containerPort": 8080}],
    "stopTimeout": 5
  }]
}
JSON
  plim taskdef register -f "$work/web-$1.json"
}

step "A service of three tasks"
register 1
plim service create --name web --task-definition web --desired-count 3 --min 100 --max 200 --circuit-breaker --rollback --wait --timeout 60s
plim task ls --service web

# The addresses at which the service's tasks answer, one a line.
addresses() {
  plim task ls --service web | awk 'NR > 1 { for (i = 1; i <= NF; i++) if ($i ~ /->8080$/) { sub(/->8080$/, "", $i); print $i } }'
}

# ask ADDRESS: what the task there answers; it may take a moment to listen.
ask() { curl --silent --show-error --fail --max-time 5 --retry 10 --retry-connrefused --retry-delay 1 "http://$1/"; }

# all_answer VERSION: each of three tasks answers with that version.
all_answer() {
  local n=0 address answer
  for address in $(addresses); do
    answer=$(ask "$address") || fail "the task at $address does not answer"
    echo "$address: $answer"
    grep -qw "version $1" <<<"$answer" || fail "the task at $address does not answer with version $1"
    n=$((n + 1))
  done
  [ "$n" = 3 ] || fail "$n of 3 tasks answer"
}
all_answer 1

running() { plim service ls | awk '$1 == "web" { print $4 }'; }
tasks() { plim task ls --service web | awk 'NR > 1 { print $1 }' | sort; }

# replaced OLD: waits until the task is gone and three others run.
replaced() {
  local deadline=$((SECONDS + 60))
  until [[ $(running) = 3 && $(tasks) != *$1* ]]; do
    [ "$SECONDS" -lt "$deadline" ] || fail "task $1 was not replaced within a minute"
    sleep 0.2
  done
}

step "A container is killed with SIGKILL"
victim=$(tasks | head -n 1)
pid=
for environ in $("${root[@]}" grep -lsz "^PLIMSOLL_TASK_ARN=.*$victim" /proc/[0-9]*/environ); do
  pid=$(basename "$(dirname "$environ")")
done
[ -n "$pid" ] || fail "no process of task $victim was found"
started=$(date +%s%N)
echo "kill -9 $pid, of task $victim"
"${root[@]}" kill -9 "$pid"
replaced "$victim"
echo "replaced after $((($(date +%s%N) - started) / 1000000)) ms"
plim task describe "$victim" | grep -E '^(Status|Stop code|Reason) '
plim task ls --service web

step "An application crashes by itself"
victim=$(tasks | tail -n 1)
at=$(plim task ls --service web | awk -v t="$victim" '$1 == t { for (i = 1; i <= NF; i++) if ($i ~ /->8080$/) { sub(/->8080$/, "", $i); print $i } }')
curl --silent --max-time 5 "http://$at/crash?code=3" >/dev/null || true
replaced "$victim"
plim task describe "$victim" | tail -n 2
all_answer 1

step "A rolling update to version 2; RUNNING must never be below 3"
register 2
(
  least=3
  trap 'echo "$least" >"$work/least"; exit 0' TERM
  while :; do
    now=$(running) || continue
    [ "${now:-3}" -lt "$least" ] && least=$now
    echo "$least" >"$work/least"
  done
) &
watcher=$!
plim service update web --task-definition web --wait --timeout 90s
kill "$watcher" && wait "$watcher" 2>/dev/null || true
watcher=
least=$(cat "$work/least")
[ "$least" -ge 3 ] || fail "RUNNING fell to $least during the update"
echo "RUNNING was never below $least"
all_answer 2
plim service describe web

step "Taking it down"
plim service delete web --force --wait --timeout 60s
