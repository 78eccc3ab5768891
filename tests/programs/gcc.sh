#!/usr/bin/env bash
# gcc: compiles a large file to the same code.
. "$(dirname "$0")/common.sh"
need gcc perl
perl -e 'print "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n";
for my $i (1..400) { print "static int f$i(int x) { int s = $i; for (int i = 0; i < x; i++) { s = s * 31 + i; if (s & 1) s ^= $i; } return s; }\n" }
print "int main(void) { unsigned s = 0;\n"; print "s += f$_($_ % 50);\n" for 1..400; print "printf(\"%u\\n\", s); return 0; }\n";' >large.c
gcc -O2 -S -o without.s large.c
hak gcc -O2 -S -o with.s large.c
cmp without.s with.s || fail 'gcc generates other code'
hak gcc -O2 -o program large.c
hak ./program >with.txt
./program >without.txt
cmp with.txt without.txt || fail 'the program prints something else'
