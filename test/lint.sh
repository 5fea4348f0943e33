#!/bin/sh
# Formatter, linter, and both compilers with -Werror over everything. BUILD names the build
# directory. Goes on after a failure, so that one run shows all there is to mend.
set -u
cd "$(dirname "$0")/.." || exit 1
test/deps.sh build test lint || exit 1

build=${BUILD:-build}
jobs=$(nproc 2>/dev/null || echo 2)
status=0

stage() {
	title=$1
	shift
	began=$(date +%s)
	if "$@"; then
		verdict=ok
	else
		verdict=FAILED
		status=1
	fi
	printf 'lint: %-14s %-6s %3d s\n' "$title" "$verdict" "$(($(date +%s) - began))"
}

files() {
	git -c safe.directory='*' ls-files -co --exclude-standard -- "$@" | while IFS= read -r f; do
		[ ! -f "$f" ] || printf '%s\n' "$f"
	done
}

format() {
	files '*.c' '*.h' | xargs clang-format --dry-run -Werror
}

compile() {
	make --no-print-directory -s -j"$jobs" -k BUILD="$build/lint-$1" CC="$1" WERROR=1 tests
}

tidy() {
	make --no-print-directory -s -j"$jobs" -k BUILD="$build/lint-clang" CC=clang WERROR=1 tidy
}

shell() {
	shellcheck -e SC2317 test/*.sh .ci/run
}

stage format format
stage gcc compile gcc
stage clang compile clang
stage clang-tidy tidy
stage shellcheck shell
exit "$status"
