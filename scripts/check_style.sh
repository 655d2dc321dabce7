#!/usr/bin/env bash
#
# Layout is clang-format's (.clang-format), and no line goes far beyond 100
# columns with tabs of 4, but for texts for people, which are not broken.  "scripts/check_style.sh --fix [FILE...]" rewrites the files.
# The last line is "N passed, N failed".
#
# Other major versions of clang-format lay out some things differently, and so
# only version 14 (Debian 12) is asked.
#
set -u
cd "$(dirname "$0")/.." || exit 1

clang_format=$(command -v clang-format-14 || command -v clang-format)
if [ "${1:-}" = --fix ]; then
	shift
	if [ $# -eq 0 ]; then
		mapfile -t files < <(find src test -name '*.[ch]')
		set -- "${files[@]}"
	fi
	exec "$clang_format" -i "$@"
fi

mapfile -t files < <(find src test -name '*.[ch]' | sort)
if [ ${#files[@]} -eq 0 ]; then
	echo "0 passed, 0 failed"
	exit 0
fi

broken=$(for file in "${files[@]}"; do
	expand -t4 "$file" | awk -v file="$file" 'length > 110 && !/"/ { print "    " file ":" NR ": beyond 110 columns" }'
done)
if "$clang_format" --version | grep -q 'version 14\.'; then
	broken+=$(for file in "${files[@]}"; do
		"$clang_format" "$file" | cmp -s - "$file" || printf '\n    %s' "$file"
	done)
else
	echo "only the length of the lines is looked at: clang-format is not version 14"
fi
if [ -n "$broken" ]; then
	echo "not ok - layout (scripts/check_style.sh --fix mends all but long lines):"
	echo "$broken"
	echo "0 passed, 1 failed"
	exit 1
fi
echo "ok - style (${#files[@]} files)"
echo "1 passed, 0 failed"
