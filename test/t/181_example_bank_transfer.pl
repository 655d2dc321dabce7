# -------------------------------------------------------------------------
#
# 181_example_bank_transfer.pl
#		The example examples/bank-transfer does what it says.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use IPC::Run qw(run);
use Test::More;

my $node = new_node(conf => 'max_prepared_transactions = 20');

local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port);
for my $time ('first', 'second')
{
	my $out = '';

	ok(run([ 'examples/bank-transfer/run.sh' ], '>', \$out, '2>&1'), "it runs a $time time") || diag($out);
	is(scalar(() = $out =~ /^ok - /mg), 8, 'and its checks hold');
	unlike($out, qr/^not ok/m, 'all of them');
	like($out, qr/^#\s+new row for relation "account" violates check constraint/m, 'no cover is refused by the bank');
}

done_testing();
