# -------------------------------------------------------------------------
#
# 241_http_asan.pl
#		The attacks of DtmAttack.pm on the HTTP API without a database, built
#		with AddressSanitizer and UBSan: nothing is found, nothing leaks.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use Cwd qw(abs_path);
use DtmAttack;
use File::Basename qw(dirname);
use JSON::PP;
use Test::More;

my $top = abs_path(dirname(__FILE__) . '/../..');
my $program = "$top/build/san/httpd_server";
my %limits = (max_connections => 50, max_body => 65536, read_ms => 1000);

# ours is not a make of the one that runs the tests
delete @ENV{qw(MAKEFLAGS MAKELEVEL MFLAGS)};
my $made = `make -s -C '$top' build/san/httpd_server 2>&1`;
is($?, 0, 'the server is built') or die "make: $made";

# memory that was freed is kept for a while: a little, to see that the rest does not grow
$ENV{ASAN_OPTIONS} = 'quarantine_size_mb=1:detect_leaks=1:exitcode=99';
my $log = "$top/build/san/httpd_server.log";
my $pid = open(my $out, '-|', "exec '$program' $limits{max_connections} $limits{max_body} $limits{read_ms} 2>'$log'")
  or die "could not start $program: $!";
my ($port) = (<$out> // '') =~ /^port (\d+)$/ or die "$program did not start";
my $attack = DtmAttack->new(port => $port, %limits);

$attack->all;
$attack->is_flat(sub { $attack->all }, pids => [$pid], name => 'once more', max_kb => 16 * 1024);

# clients that went in the midst of a body are noticed at the latest when their time is over
my ($counts, $deadline) = (undef, time() + $DtmAttack::patience);
do
{
	my ($answer) = $attack->exchange(DtmAttack::get('/_counts'));
	$counts = decode_json($answer =~ s/.*\r\n\r\n//sr);
} while (($counts->{bodies} > 0 || $counts->{waiting} > 1) && time() < $deadline);
cmp_ok($counts->{requests}, '>', 1000, 'it had something to do');
is($counts->{$_}, 0, "$_: nothing is left") for qw(queued bodies);
is($counts->{waiting}, 1, 'but the request that asks');

kill 'TERM', $pid;
close $out;
is($?, 0, 'it ends with nothing found') or diag(do { local (@ARGV, $/) = $log; <> });

done_testing();
