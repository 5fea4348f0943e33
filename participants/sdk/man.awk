# The man pages of libassent out of its headers, so that there is one text to keep true:
#
#	awk -v dir=OUT -v date='November 21, 2026' -v version=0.1.0 -f man.awk assent.h assent_client.h
#
# assent(3) is the comment on top of the first header. Each section of a header ("---- title ----") is
# a page with the name of its first function, to which the other functions' names are links. What the
# header must keep to is what it looks like: a comment, then the declarations that it is about, up
# to an empty line, the next comment or the next section. Lines of a comment that begin with a tab
# are shown as they stand. Any awk will do, and nothing else is needed to build.

function fail(what)
{
	print FILENAME ":" FNR ": " what >"/dev/stderr"
	failed = 1
	exit 1
}

# A line of text, safe for roff.
function safe(s)
{
	gsub(/\\/, "\\e", s)
	if (s ~ /^[.']/)
		s = "\\\\&" s
	return s
}

# What stands between backticks is bold.
function bold(s)
{
	while (match(s, /`[^`]*`/))
		s = substr(s, 1, RSTART - 1) "\\fB" substr(s, RSTART + 1, RLENGTH - 2) "\\fP" \
		    substr(s, RSTART + RLENGTH)
	return s
}

# A sentence ends with its line: formatters set the space behind it.
function sentences(s,  n, part, i, text)
{
	gsub(/[.?] /, "&\n", s)
	n = split(s, part, "\n")
	for (i = 1; i <= n; i++) {
		sub(/ $/, "", part[i])
		text = text bold(safe(part[i])) "\n"
	}
	return text
}

function literal(lines,  n, line, i, text, cut)
{
	text = ".Bd -literal -offset indent\n"
	n = split(lines, line, "\n")
	for (i = 1; i <= n; i++) {
		if (sub(/^ASSENT_API /, "", line[i]))
			cut = 11
		else if (sub(/^static inline /, "", line[i]))
			cut = 14
		else if (substr(line[i], 1, cut) ~ /^ +$/)
			line[i] = substr(line[i], cut + 1)
		text = text safe(line[i]) "\n"
	}
	return text ".Ed\n"
}

# A comment's text as paragraphs and literal lines.
function prose(lines,  n, line, i, text, code, open)
{
	n = split(lines, line, "\n")
	for (i = 1; i <= n; i++) {
		code = line[i] ~ /^\t/
		if (code && !open)
			text = text ".Bd -literal -offset indent\n"
		if (!code && open)
			text = text ".Ed\n"
		open = code
		if (line[i] ~ /^ *$/) {
			if (i > 1 && i < n && line[i + 1] !~ /^\t/)
				text = text ".Pp\n"
		} else if (code) {
			text = text safe(substr(line[i], 2)) "\n"
		} else {
			sub(/^ +/, "", line[i])
			text = text sentences(line[i])
		}
	}
	return open ? text ".Ed\n" : text
}

function head(page)
{
	return ".\\\" Made by man.awk out of assent.h.\n.Dd " date "\n.Dt " toupper(page) " 3\n.Os\n"
}

function write_page(  i, file, names, comma)
{
	if (n_name == 0)
		return
	file = dir "/" name[1] ".3"
	for (i = 1; i <= n_name; i++)
		names = names ".Nm " name[i] (i < n_name ? " ,\n" : "\n")
	printf "%s", head(name[1]) ".Sh NAME\n" names ".Nd " title "\n" \
	    ".Sh LIBRARY\nlibassent (libassent, \\-lassent)\n" \
	    ".Sh SYNOPSIS\n.In assent.h\n" \
	    ".Sh DESCRIPTION\n" body ".Sh SEE ALSO\n.Xr assent 3\n" >file
	close(file)
	for (i = 2; i <= n_name; i++) {
		if (system("ln -sf " name[1] ".3 '" dir "/" name[i] ".3'") != 0)
			fail("no link for " name[i])
	}
	pages = pages ".It Xr " name[1] " 3\n" safe(title) "\n"
}

# Declarations whose comment (there may be none) came before.
function end_block(  n, line, i, s)
{
	if (code == "" && comment == "")
		return
	sub(/\n$/, "", code)
	sub(/\n$/, "", comment)
	if (code != "") {
		n = split(code, line, "\n")
		for (i = 1; i <= n; i++) {
			if (line[i] ~ /^(ASSENT_API|static inline) /)
				declaring = 1
			if (declaring && match(line[i], /assent_[a-z0-9_]+\(/)) {
				name[++n_name] = substr(line[i], RSTART, RLENGTH - 1)
				declaring = 0
			}
		}
		if (declaring)
			fail("no function declared: " code)
		body = body literal(code)
	}
	if (comment != "")
		body = body (code == "" && body != "" ? ".Pp\n" : "") prose(comment)
	code = comment = ""
}

# The text of a comment's line, without what makes it one.
function bare(s)
{
	sub(/^ *\/\* ?/, "", s)
	sub(/ ?\*\/ *$/, "", s)
	sub(/^ \* ?/, "", s)
	sub(/^ \*$/, "", s)
	return s
}

FNR == 1 { started = ended = 0 }

ended { next }

/^\/\* ---- / {
	end_block()
	write_page()
	n_name = 0
	body = ""
	title = bare($0)
	gsub(/^-+ | -+$/, "", title)
	sub(/ \(participants\/.*$/, "", title)
	started = 1
	in_comment = $0 !~ /\*\/ *$/
	next
}

in_comment {
	if ($0 ~ /\*\/ *$/)
		in_comment = 0
	comment = comment bare($0) "\n"
	if (!started && !in_comment) {
		overview = overview == "" ? comment : overview
		comment = ""
	}
	next
}

# A comment that begins a line ends the block before it; one that is within a struct is code.
/^\/\*/ {
	end_block()
	in_comment = $0 !~ /\*\/ *$/
	comment = bare($0) "\n"
	next
}

!started { next }

/^#ifdef __cplusplus/ {
	end_block()
	write_page()
	n_name = 0
	ended = 1
}

ended { next }

/^$/ { end_block(); next }

{ code = code $0 "\n" }

END {
	if (failed)
		exit 1
	if (!ended || pages == "" || overview == "")
		fail("not the header that this was written for")
	sub(/^\n*assent\.h - [^\n]*\n\n?/, "", overview)
	sub(/\n+$/, "", overview)
	file = dir "/assent.3"
	printf "%s", head("assent") ".Sh NAME\n.Nm assent\n" \
	    ".Nd take part in global transactions, and start them\n" \
	    ".Sh LIBRARY\nlibassent (libassent, \\-lassent)\n" \
	    ".Sh SYNOPSIS\n.In assent.h\n.Pp\n" \
	    ".Dl cc x.c -o x $(pkg-config --cflags --libs assent)\n" \
	    ".Sh DESCRIPTION\n" prose(overview) ".Pp\nThe pages:\n.Bl -tag -width indent\n" pages \
	    ".El\n.Sh FILES\n.Bl -tag -width indent\n" \
	    ".It Pa share/doc/assent/participants/README.md\n" \
	    "Below the prefix: what a participant must keep to, with an example.\n" \
	    ".El\n.Sh SEE ALSO\n.Xr assent 1 ,\n.Xr assentd 8\n.Pp\nThis is version " version ".\n" >file
}
