# Sourced by scripts that run a cluster of their own: builds the binary, starts `quorate dev` in $dir, stops it.
# The caller sets `work` (a folder of its own) and `dir` (the cluster's, in it), and calls `stop_cluster` when it ends.
# shellcheck shell=bash

scripts/setup
if [ -z "${QUORATE_BIN:-}" ]; then
  printf '==> building quorate (the first time takes some minutes)\n' >&2
  cargo build --release --locked --quiet --package quorate
  QUORATE_BIN=$PWD/target/release/quorate
fi
dev_pid=

# Starts three nodes in $dir and waits for dev.json; arguments go to `quorate dev`. Sets api, pid, id and shares, by place.
start_cluster() {
  rm -f "$dir/dev.json"
  "$QUORATE_BIN" dev --nodes 3 --dir "$dir" "$@" >>"$work/dev.log" 2>&1 &
  dev_pid=$!
  for _ in $(seq 900); do
    [ -s "$dir/dev.json" ] && break
    kill -0 "$dev_pid" 2>/dev/null || { cat "$work/dev.log" >&2; echo "the cluster did not start" >&2; exit 1; }
    sleep 0.1
  done
  [ -s "$dir/dev.json" ] || { echo "the cluster was not ready within 90 s" >&2; exit 1; }
  local json
  json=$(tr -d '\n' <"$dir/dev.json")
  mapfile -t api < <(grep -o '"api": *"[^"]*"' <<<"$json" | cut -d'"' -f4)
  mapfile -t pid < <(grep -o '"pid": *[0-9]*' <<<"$json" | grep -o '[0-9]*$')
  mapfile -t id < <(grep -o '"id": *[0-9]*' <<<"$json" | grep -o '[0-9]*$')
  mapfile -t shares < <(grep -o 'qs1[a-z0-9]*' <<<"$json")
  QUORATE_CACERT=$(grep -o '"ca": *"[^"]*"' <<<"$json" | cut -d'"' -f4)
  QUORATE_CLIENT_CERT=$(grep -o '"cert": *"[^"]*"' <<<"$json" | head -n 1 | cut -d'"' -f4)
  QUORATE_CLIENT_KEY=$(grep -o '"key": *"[^"]*"' <<<"$json" | head -n 1 | cut -d'"' -f4)
  QUORATE_ADDR=$(IFS=,; echo "${api[*]}")
  export QUORATE_CACERT QUORATE_CLIENT_CERT QUORATE_CLIENT_KEY QUORATE_ADDR
}

stop_cluster() {
  [ -n "$dev_pid" ] || return 0
  kill -INT "$dev_pid" 2>/dev/null || true
  wait "$dev_pid" 2>/dev/null || true
  dev_pid=
}

# The place of the leader among the nodes, from 0.
leader_place() {
  local leader i
  # 3: something is not well, and told all the same.
  leader=$({ "$QUORATE_BIN" operator status --output json || [ $? = 3 ]; } | tr -d '\n' | grep -o '"leader": *[0-9]*' | grep -o '[0-9]*$')
  for i in 0 1 2; do [ "${id[$i]}" != "$leader" ] || echo "$i"; done
}
