#!/usr/bin/env bash
#
# Install what is needed to build, test and demonstrate dtm_pg on Debian or
# Ubuntu.  Silent, and without touching the network, when all of it is there.
#
# --with-sdks: also the languages in which DTM's SDKs are tried (test/interop).
#
# PostgreSQL is taken in the version that pg_config reports, else in the one
# that the distribution offers.  PG_CONFIG names another pg_config.
#
set -euo pipefail
export LC_ALL=C

if ! command -v dpkg-query >/dev/null; then
	echo "install-deps: not a Debian system; install by hand: make, gcc, clang, clang-format," >&2
	echo "PostgreSQL with its server headers and libpq, libcurl, jansson, libmicrohttpd," >&2
	echo "pkg-config, perl with IPC::Run, python3 with psycopg2, openssl, nginx" >&2
	exit 0
fi

is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

packages=(make gcc libc6-dev clang clang-format libclang-rt-dev pkg-config binutils util-linux
	libcurl4-openssl-dev libjansson-dev libmicrohttpd-dev
	perl libipc-run-perl python3 python3-psycopg2 curl openssl ca-certificates)

# The tests start an nginx of their own, as themselves: the machine's stays as it is.
[ -x /usr/sbin/nginx ] || command -v nginx >/dev/null || packages+=(nginx)

# Languages are taken as they are there, where the tests look: not in the
# caller's home, which others may not read.
there() {
	PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin command -v "$1" >/dev/null
}
if [ "${1:-}" = --with-sdks ]; then
	there go || packages+=(golang-go)
	there javac || packages+=(default-jdk-headless)
	there mvn || packages+=(maven)
	there node || packages+=(nodejs)
	there npm || packages+=(npm)
	if [ ! -x /usr/bin/python3 ] || ! /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null; then
		packages+=(python3-venv)
	fi
fi

# A server that somebody put there by hand is left alone.
pg_config=${PG_CONFIG:-pg_config}
if command -v "$pg_config" >/dev/null && "$pg_config" --pgxs >/dev/null 2>&1 &&
	[ -f "$("$pg_config" --pgxs)" ] && [ -x "$("$pg_config" --bindir)/initdb" ]; then
	major=$("$pg_config" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
	if is_installed "postgresql-server-dev-$major"; then
		packages+=("postgresql-$major" "postgresql-client-$major")
	fi
else
	packages+=(postgresql postgresql-client postgresql-server-dev-all)
fi

# clang's run-time library has its version in its name on some releases
if ! is_installed libclang-rt-dev && command -v clang >/dev/null; then
	if ls "$(clang -print-resource-dir)"/lib/*/libclang_rt.fuzzer* >/dev/null 2>&1 ||
		ls "$(clang -print-resource-dir)"/lib/*/*/libclang_rt.fuzzer* >/dev/null 2>&1; then
		packages=("${packages[@]/libclang-rt-dev/}")
	fi
fi

missing=()
for package in "${packages[@]}"; do
	[ -z "$package" ] || is_installed "$package" || missing+=("$package")
done
# pkg-config became pkgconf, which takes its place
if [[ " ${missing[*]} " == *" pkg-config "* ]] && is_installed pkgconf; then
	missing=("${missing[@]/pkg-config/}")
fi
read -r -a missing <<<"${missing[*]}" || true
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "install-deps: missing: ${missing[*]}" >&2
		echo "install-deps: run scripts/install-deps.sh as root" >&2
		exit 1
	fi
	as_root=(sudo)
fi

echo "installing ${missing[*]}"
log=$(mktemp)
apt_get() {
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Dpkg::Use-Pty=0 "$@" >>"$log" 2>&1
}

# A web server that comes for the tests must not open port 80, now or at the next boot.
policy=/usr/sbin/policy-rc.d
own_policy=
let_nginx_be() {
	[[ " ${missing[*]} " == *" nginx "* ]] || return 0
	if [ ! -e "$policy" ]; then
		printf '#!/bin/sh\ncase "$1" in nginx|nginx.service) exit 101;; esac\nexit 0\n' |
			"${as_root[@]}" tee "$policy" >/dev/null
		"${as_root[@]}" chmod 755 "$policy"
		own_policy=yes
	fi
}
leave_nginx_off() {
	[ -z "$own_policy" ] || "${as_root[@]}" rm -f "$policy"
	own_policy=
	[[ " ${missing[*]} " != *" nginx "* ]] || [ ! -x /usr/sbin/nginx ] ||
		"${as_root[@]}" update-rc.d nginx disable >>"$log" 2>&1 || true
}
trap leave_nginx_off EXIT
let_nginx_be

if ! { apt_get update && apt_get install --no-install-recommends "${missing[@]}"; }; then
	tail -n 30 "$log" >&2
	echo "install-deps: apt-get failed, see $log" >&2
	exit 1
fi
leave_nginx_off
trap - EXIT
rm -f "$log"
