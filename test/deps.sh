#!/bin/sh
# Installs the Debian packages a task needs and says nothing when they are there.
#
#   test/deps.sh [build|run|test|lint|fuzz|valgrind|runtime]...      default: build run test
#
# PostgreSQL is wanted for its programs only: no system cluster is created, none is touched.
set -eu

build='gcc libc6-dev make pkg-config libmicrohttpd-dev libjansson-dev libpq-dev libuv1-dev
	libcurl4-openssl-dev libssl-dev'
run='postgresql postgresql-contrib python3 python3-psycopg2 python3-requests'
test='libcmocka-dev binutils git curl python3-pytest python3-yaml python3-jsonschema python3-venv docker-compose
	libfaketime spin g++ abigail-tools mandoc'
valgrind='valgrind libc6-dbg'
fuzz='clang libclang-rt-14-dev'
lint='clang clang-format clang-tidy git shellcheck'
runtime='libmicrohttpd12 libjansson4 libpq5 libuv1 libcurl4 libssl3 ca-certificates curl'

[ $# -gt 0 ] || set -- build run test
wanted=
for group in "$@"; do
	case $group in
	build) wanted="$wanted $build" ;;
	run) wanted="$wanted $run" ;;
	test) wanted="$wanted $test" ;;
	runtime) wanted="$wanted $runtime" ;;
	valgrind) wanted="$wanted $valgrind" ;;
	fuzz) wanted="$wanted $fuzz" ;;
	lint) wanted="$wanted $lint" ;;
	*) echo "deps.sh: no such group: $group" >&2 && exit 2 ;;
	esac
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
	echo "deps.sh: not a Debian system; needed here, by their Debian names:$wanted" >&2
	exit 0
fi

# shellcheck disable=SC2086 # a list of words
missing=$(
	{
		dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $wanted 2>/dev/null || :
	} | awk -v wanted="$wanted" '
		$1 ~ /^.i/ { have[$2] = 1 }
		END {
			n = split(wanted, w)
			for (i = 1; i <= n; i++)
				if (!(w[i] in have) && !seen[w[i]]++)
					printf "%s ", w[i]
		}'
)
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
	as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
	as_root='sudo -n'
else
	echo "missing packages; run this, then try again:" >&2
	echo "  sudo apt-get update && sudo apt-get install --no-install-recommends $missing" >&2
	exit 1
fi

# Installing the server package makes and starts a cluster unless told otherwise. The drop-in is
# there before postgresql-common is, whose own createcluster.conf includes this directory.
conf=/etc/postgresql-common/createcluster.conf
dropins=/etc/postgresql-common/createcluster.d
dropin=$dropins/assent-deps.conf
made=''
made_dir=''
case " $missing " in
*' postgresql '*)
	if [ -f $conf ] && ! grep -q "^include_dir.*createcluster\.d" $conf; then
		echo "deps.sh: $conf does not include $dropins, so installing postgresql would" \
			"create a cluster; install it by hand: apt-get install postgresql" >&2
		exit 1
	fi
	made=1
	;;
esac

cleanup() {
	[ -z "$made" ] || $as_root rm -f $dropin
	[ -z "$made_dir" ] || $as_root rmdir --ignore-fail-on-non-empty $dropins
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -n "$made" ]; then
	[ -d $dropins ] || made_dir=1
	$as_root mkdir -p $dropins
	echo 'create_main_cluster = false' | $as_root tee $dropin >/dev/null
fi

echo "installing $missing" >&2
log=$(mktemp)
# shellcheck disable=SC2086 # lists of words
if ! { $as_root apt-get -q update &&
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y \
		-o DPkg::Lock::Timeout=300 install --no-install-recommends $missing; } \
	>"$log" 2>&1 </dev/null; then
	cat "$log" >&2
	rm -f "$log"
	echo "deps.sh: apt-get failed" >&2
	exit 1
fi
rm -f "$log"
