#!/usr/bin/env bash
#
# The benchmark: builds the stub and the bare libcurl loop, gets a throwaway
# cluster with fsync on, runs bench/bench.py in it.
#
#   bench/run.sh              everything, about seven minutes
#   bench/run.sh --quick      shorter runs, to see that it works
#   bench/run.sh submit e2e   some of: base submit e2e http cpu latency claim memory barrier flash_sale
#
# Ratios are made within one run; nothing else should run on the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${DTM_BENCH_INSIDE:-}" ]; then
	export DTM_BENCH_INSIDE=1
	export DTM_CONF="fsync = on
shared_buffers = 256MB
max_wal_size = 2GB
max_connections = 100
checkpoint_timeout = 5min"
	exec scripts/with_cluster.sh bench/run.sh "$@"
fi
mkdir -p build/bench
cc -O2 -o build/bench/stub bench/stub.c
cc -O2 -o build/bench/curl_loop bench/curl_loop.c $(pkg-config --cflags --libs libcurl)
cc -O2 -o build/bench/submit_loop bench/submit_loop.c
exec /usr/bin/python3 bench/bench.py "$@"
