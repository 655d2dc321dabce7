# Shared by the scripts beside it: a private copy of this tree, built and
# installed into a private copy of PostgreSQL, and a throwaway cluster.
# To be sourced by bash.
#
# Nothing outside one temporary directory is written: the server's files are
# found relative to its binaries, so that copies of the binaries, with links
# to everything else, are an installation of their own.  Several trees can be
# checked at once, and no right to write to the system's folders is needed.
#
# Servers refuse to run as root.  Started by root, all of it is done as the
# user "postgres" (DTM_RUN_AS names another one).

set -euo pipefail
export LC_ALL=C.UTF-8
ulimit -S -c 0
# the caller's own connection and time zone are none of our business
unset PGDATABASE PGHOST PGPORT PGUSER PGPASSWORD PGSERVICE PGOPTIONS PGAPPNAME PGTZ MAKEFLAGS MAKELEVEL

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ "$(id -u)" -eq 0 ]; then
	RUN_AS=${DTM_RUN_AS:-postgres}
else
	RUN_AS=$(id -un)
fi

# Run a command as the unprivileged user, with a home and a clean umask.
as_user() {
	if [ "$(id -un)" = "$RUN_AS" ]; then
		env HOME="$WORK" "$@"
	else
		runuser -u "$RUN_AS" -- env HOME="$WORK" "$@"
	fi
}

# WORK: the temporary directory.  Removed by workdir_end, which the caller traps.
workdir_begin() {
	if [ "$(id -u)" -eq 0 ] && ! id "$RUN_AS" >/dev/null 2>&1; then
		useradd --system --no-create-home --shell /bin/sh "$RUN_AS"
	fi
	# Not under TMPDIR: the path of a socket has to fit into 107 bytes.
	WORK=$(mktemp -d /tmp/dtm_pg.XXXXXX)
	chown "$RUN_AS" "$WORK"
	chmod 755 "$WORK"
	SOURCE=$WORK/source
	SERVER=$WORK/server
	DATA=$WORK/data
	LOGS=$WORK/log
	as_user mkdir -p "$SOURCE" "$LOGS"
}

workdir_end() {
	cluster_stop
	if [ "${1:-}" != keep ]; then
		rm -rf "$WORK"
	fi
}

# Sources only: what a compiler left in the tree may be of another version.
copy_tree() {
	tar -C "$TOP" --exclude=./.git --exclude=./build --exclude=./tmp_check --exclude='*.o' \
		--exclude='*.d' --exclude='*.so' --exclude='__pycache__' --exclude='./sql/dtm_pg--0.1.0.sql' \
		--no-same-owner -cf - . | as_user tar -C "$SOURCE" --no-same-owner -xf -
}

# A private installation of the server: PG_CONFIG and PATH point to it afterwards.
copy_server() {
	local system=${PG_CONFIG:-pg_config} bindir sharedir pkglibdir includedir dir

	bindir=$("$system" --bindir) && sharedir=$("$system" --sharedir) &&
		pkglibdir=$("$system" --pkglibdir) && includedir=$("$system" --includedir) || return 1
	as_user mkdir -p "$SERVER$bindir" "$SERVER$(dirname "$includedir")" "$SERVER$sharedir" \
		"$SERVER$pkglibdir" &&
		as_user cp -L "$bindir"/* "$SERVER$bindir/" &&
		as_user ln -s "$includedir" "$SERVER$includedir" || return 1
	for dir in "$sharedir" "$pkglibdir"; do
		as_user cp -rs "$dir/." "$SERVER$dir/" || return 1
	done
	# an older dtm_pg of the system must not be found instead of a missing new one
	as_user find "$SERVER$sharedir/extension" "$SERVER$pkglibdir" -maxdepth 1 \
		\( -name 'dtm_pg*' -o -name 'dtm_barrier*' \) -delete

	export PG_CONFIG=$SERVER$bindir/pg_config
	# programs of the system, not what the caller has in a home that others cannot read
	export PATH=$SERVER$bindir:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	if [ "$("$PG_CONFIG" --sharedir)" != "$SERVER$sharedir" ]; then
		echo "PostgreSQL in $bindir cannot be copied: its files are not found relative to it" >&2
		return 1
	fi
}

in_source() {
	(cd "$SOURCE" && as_user "$@")
}

build_and_install() {
	in_source make -s -j2 all &&
		in_source make -s install
}

# An empty cluster that listens on a private socket only.  Arguments: lines for
# postgresql.conf.  Sets PGHOST, PGPORT and PGUSER.
cluster_start() {
	as_user initdb -D "$DATA" -A trust -U postgres -E UTF8 --locale=C.UTF-8 -N >"$LOGS/initdb.log" 2>&1 || {
		cat "$LOGS/initdb.log" >&2
		return 1
	}
	as_user mkdir -m 0700 "$WORK/s"
	printf '%s\n' "shared_preload_libraries = 'dtm_pg'" "listen_addresses = ''" \
		"unix_socket_directories = '$WORK/s'" "unix_socket_permissions = 0700" "port = 5432" \
		"shared_buffers = 32MB" "max_connections = 60" "max_worker_processes = 16" "fsync = off" "autovacuum_naptime = 10s" \
		"log_line_prefix = '%m [%p] %b %d '" "timezone = 'UTC'" "$@" |
		as_user tee -a "$DATA/postgresql.conf" >/dev/null
	as_user pg_ctl -D "$DATA" -l "$LOGS/server.log" -w -t 60 start >"$LOGS/pg_ctl.log" 2>&1 || {
		tail -n 20 "$LOGS/server.log" >&2
		return 1
	}
	export PGHOST=$WORK/s PGPORT=5432 PGUSER=postgres
}

cluster_stop() {
	if [ -n "${DATA:-}" ] && [ -f "$DATA/postmaster.pid" ]; then
		as_user pg_ctl -D "$DATA" -m immediate -w stop >/dev/null 2>&1 || true
	fi
}
