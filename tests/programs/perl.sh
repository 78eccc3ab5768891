#!/usr/bin/env bash
# perl: hashes, regular expressions, closures, fork.
. "$(dirname "$0")/common.sh"
need perl
cat >script <<'EOS'
my (%h, @a);
for my $i (1..200000) { $h{"key" . ($i % 5000)} .= chr(65 + $i % 26); push @a, [$i, "x" x ($i % 40)]; }
my $n = 0;
for my $k (sort keys %h) { $n += length($1) if $h{$k} =~ /(A.*?Z)/; }
print "$n ", scalar(@a), " ", join(",", map { $_->[0] } grep { length($_->[1]) == 39 } @a[0..400]), "\n";
my @f = map { my $y = $_; sub { $y * shift } } 1..1000; print $f[500]->(3), "\n";
for (1..5) { my $p = fork; if (!$p) { my @b = (1..10000); exit 0 } waitpid $p, 0; print $?; }
print "\n";
EOS
same_with_and_without perl script
