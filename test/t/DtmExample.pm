# -------------------------------------------------------------------------
#
# DtmExample.pm
#		Runs an example of examples/ as a user would, on a cluster of its own.
#		Each check that it makes is a test.
#
#	use DtmExample;
#	run_example('order-outbox', checks => 20);
#
# -------------------------------------------------------------------------
package DtmExample;

use strict;
use warnings;
use Exporter 'import';
use Cwd qw(abs_path);
use DtmTest;
use File::Basename qw(dirname);
use Test::More;

our @EXPORT = qw(run_example);

# Options: checks, at least how many there must be; conf, lines for
# postgresql.conf; and prepare, called with the cluster before the example runs.
sub run_example
{
	my ($name, %opts) = @_;
	my $node = new_node(extension => 0, conf => $opts{conf} // '');
	my $program = abs_path(dirname(abs_path(__FILE__)) . "/../../examples/$name/run.sh");
	my $output;

	$opts{prepare}->($node) if $opts{prepare};
	{
		local $ENV{PGHOST} = $node->host;
		local $ENV{PGPORT} = $node->port;
		local $ENV{PGUSER} = $node->safe_psql('postgres', 'SELECT current_user');
		local $ENV{PGDATABASE} = 'postgres';
		$output = qx{'$program' 2>&1};
	}
	is($?, 0, "$name ends well") or diag($output);

	my @checks = $output =~ /^  (ok|FAIL)  (.*)$/mg;
	while (my ($outcome, $what) = splice @checks, 0, 2)
	{
		ok($outcome eq 'ok', $what);
	}
	cmp_ok(Test::More->builder->current_test - 1, '>=', $opts{checks}, 'number of checks');
	$node->stop;
	return;
}

1;
