# assentd(8) out of what `assentd --help` says, so that there is one list of options to keep true:
#
#	assentd --help | awk -v date='November 21, 2026' -f man.awk >assentd.8
#
# First the ways to call it ("  assentd ..." or "  --...", blanks, what it does), then the options:
# "  --NAME VALUE" and, deeper, what it means.

function safe(s)
{
	gsub(/\\/, "\\e", s)
	return s ~ /^[.']/ ? "\\&" s : s
}

function sentences(s)
{
	gsub(/; /, ";\n", s)
	return safe(s)
}

NR == 1 {
	title = $0
	sub(/^assentd - /, "", title)
	print ".\\\" Made by man.awk out of assentd --help.\n.Dd " date "\n.Dt ASSENTD 8\n.Os"
	print ".Sh NAME\n.Nm assentd\n.Nd " title
	print ".Sh DESCRIPTION\n.Bl -tag -width indent"
	next
}

/^Options/ {
	print ".El\n.Sh OPTIONS"
	in_options = 1
	prose = 1
}

/^  --/ && in_options {
	if (prose)
		print ".Bl -tag -width indent"
	prose = 0
	print ".It " safe(substr($0, 3))
	next
}

/^      / && in_options {
	print sentences(substr($0, 7))
	next
}

/^  [^ ]/ && !in_options {
	if (match($0, /  +[^ ].*$/) && match(substr($0, 3), /  +/)) {
		print ".It " safe(substr($0, 3, RSTART - 1))
		print safe(substr($0, 2 + RSTART + RLENGTH))
	}
	next
}

/./ { print safe($0) }

END {
	print ".El\n.Sh SEE ALSO\n.Xr assent 3"
	if (!in_options || prose)
		exit 1
}
