# -------------------------------------------------------------------------
#
# 180_example_flash_sale.pl
#		examples/flash-sale runs, its rules hold, and it leaves nothing.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use Cwd qw(abs_path);
use DtmTest;
use File::Basename qw(dirname);
use IPC::Run qw(run);
use Test::More;

my $node = new_node(extension => 0);
my $program = abs_path(dirname(__FILE__) . '/../../examples/flash-sale/run.sh');
my $out = '';

{
	local %ENV = %ENV;
	$ENV{PGHOST} = $node->host;
	$ENV{PGPORT} = $node->port;
	ok(run([ 'bash', $program ], '>', \$out, '2>', \$out), 'the example ends well') or diag($out);
}
is(scalar(() = $out =~ /\| holds$/mg), 5, 'each of its rules holds') or diag($out);
unlike($out, qr/ERROR|BROKEN/, 'nobody met an error');
my ($sold, $paid) = ($out =~ /phones sold\s*\|\s*(\d+)/, $out =~ /orders paid\s*\|\s*(\d+)/);
cmp_ok($sold // 0, '>', 300, 'phones were sold');
is($sold, $paid, 'and paid');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = 'flash_shop'"), '0', 'its database is gone');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_roles WHERE rolname = 'flash_shop'"), '0', 'so is its role');

$node->stop;
done_testing();
