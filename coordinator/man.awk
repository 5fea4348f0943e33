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
	next
}

/^Options/ {
	print ".Sh SYNOPSIS\n" ways ".Sh DESCRIPTION"
	print "assentd takes global transactions over HTTP and JSON, and drives their participants to"
	print "one agreed outcome, whatever crashes on the way: under two-phase and three-phase commit,"
	print "Try-Confirm-Cancel, or as a saga."
	print "Its state is in PostgreSQL: a decision is a committed row before anybody hears of it."
	print ".Bl -tag -width indent\n" actions ".El\n.Sh OPTIONS"
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
		way = safe(substr($0, 3, RSTART - 1))
		actions = actions ".It " way "\n" safe(substr($0, 2 + RSTART + RLENGTH)) "\n"
		if (way !~ /^-/)
			ways = ways (ways ? ".br\n" : "") way "\n"
	}
	next
}

/./ { print safe($0) }

END {
	print ".El\n.Sh FILES\n.Bl -tag -width indent"
	print ".It Pa /etc/assent/assentd.conf\nRead without --config, when it is there."
	print ".It Pa share/doc/assent/README.md\nBelow the prefix: how to run it, and what it guarantees."
	print ".It Pa share/doc/assent/openapi.yaml\nThe HTTP API."
	print ".El\n.Sh EXIT STATUS\n.Bl -tag -width indent"
	print ".It 0\nIt was told to end, or what it was called for is done."
	print ".It 1\nIt was not; standard error says why."
	print ".El\n.Sh SIGNALS\n.Bl -tag -width indent"
	print ".It SIGHUP\nReads file and environment again, and the files they name; what is marked * applies"
	print "at once.\nA fault in them changes nothing, and is logged."
	print ".It SIGTERM , SIGINT\nNothing new is taken on, what is under way has 3 seconds to end, and what"
	print "is left goes on where the database is served next.\nA second one ends it at once."
	print ".El\n.Sh SEE ALSO\n.Xr assent 1 ,\n.Xr assent 3"
	if (!in_options || prose)
		exit 1
}
