# Turns text files into one C file: const char *const NAME[] (NULL-terminated, one element per
# file in the order given) and const unsigned NAME_n. Call with -v name=NAME and LC_ALL=C.

function close_file()
{
	if (n_files > 0)
		print "\t,"
}

BEGIN {
	print "/* Made by sql/embed.awk. */"
	print "extern const char *const " name "[];"
	print "extern const unsigned " name "_n;"
	print ""
	print "const char *const " name "[] = {"
}

FNR == 1 {
	close_file()
	n_files++
	print "\t/* " FILENAME " */"
}

{
	gsub(/\\/, "&&")
	gsub(/"/, "\\\"")
	gsub(/\?\?/, "?\"\"?")
	gsub(/\t/, "\\t")
	print "\t\"" $0 "\\n\""
}

END {
	close_file()
	print "\t0};"
	print "const unsigned " name "_n = " n_files + 0 ";"
}
