#!/usr/bin/perl
#
# Run TAP tests and count: run_tap.pl JOBS TEST...
#
# As prove, but the last line is "N passed, N failed".  A file that dies, or
# runs another number of tests than it planned, is a failure also when each
# test that it ran went well.
#
use strict;
use warnings;
use TAP::Harness;

my ($jobs, @tests) = @ARGV;
if (!@tests)
{
	print "0 passed, 0 failed\n";
	exit 0;
}

$ENV{TESTDIR} or die "TESTDIR is not set\n";
# the names that it has since PostgreSQL 16
$ENV{TESTDATADIR} //= "$ENV{TESTDIR}/tmp_check";
$ENV{TESTLOGDIR} //= "$ENV{TESTDIR}/tmp_check/log";
for (my $dir = '', my @parts = split m{/}, $ENV{TESTDIR}; @parts;)
{
	$dir .= shift(@parts) . '/';
	mkdir $dir;
}

my $harness = TAP::Harness->new({ jobs => $jobs, lib => [@INC], timer => 1, failures => 1 });
my $result = $harness->runtests(@tests);

my ($passed, $failed) = (scalar $result->passed, scalar $result->failed);
for my $name (@tests)
{
	my ($parser) = $result->parsers($name);
	$failed++ if $parser->has_problems && !$parser->failed;
}
print "$passed passed, $failed failed\n";
exit($failed ? 1 : 0);
