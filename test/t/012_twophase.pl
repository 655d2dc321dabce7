# -------------------------------------------------------------------------
#
# 012_twophase.pl
#		PREPARE TRANSACTION with a submit in it: COMMIT PREPARED, by any
#		session, also after a crash, starts it at once; ROLLBACK PREPARED
#		leaves nothing.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node(fsync => 1, conf => 'max_prepared_transactions = 10');
my $service = start_service();

sub sql { return $node->safe_psql('postgres', @_); }

sub submit_sql
{
	my ($gid) = @_;

	return "SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url('/call') . "')), gid => '$gid')";
}

sub check_prompt
{
	my ($gid, $start) = @_;

	wait_status($node, $gid, 'succeed', timeout => 10);
	cmp_ok(time() - $start, '<', 5, "$gid: at once");
	is($service->calls(gid => $gid), 1, "$gid: called once");
	return;
}

sql('BEGIN; ' . submit_sql($_) . "; PREPARE TRANSACTION '$_'") for qw(committed rolled-back crashed crashed-rolled-back);
usleep(1_500_000);
is($service->calls, 0, 'nothing starts at PREPARE TRANSACTION');
is(sql('SELECT count(*) FROM dtm.transactions'), '0', 'and nothing is seen of it');

my $start = time();
sql(q{COMMIT PREPARED 'committed'});
check_prompt('committed', $start);

sql(q{ROLLBACK PREPARED 'rolled-back'});
is(sql(q{SELECT count(*) FROM dtm.transactions WHERE gid = 'rolled-back'}), '0', 'ROLLBACK PREPARED leaves nothing');

immediate_stop_start($node);
usleep(1_000_000);
is($service->calls, 1, 'nothing starts while it is only prepared, after a crash neither');
$start = time();
sql(q{COMMIT PREPARED 'crashed'});
check_prompt('crashed', $start);
sql(q{ROLLBACK PREPARED 'crashed-rolled-back'});

# the gid is free again
$start = time();
sql(submit_sql('rolled-back'));
check_prompt('rolled-back', $start);

# a submit that is not prepared is not confused by one that was in the same session
$start = time();
sql('BEGIN; ' . submit_sql('first') . "; PREPARE TRANSACTION 'first'; " . submit_sql('direct'));
check_prompt('direct', $start);
is($service->calls(gid => 'first'), 0, 'the prepared one waits');

# more than a session remembers one by one
sql("BEGIN; SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url('/many')
	  . "')), gid => 'many-' || i) FROM generate_series(1, 700) AS i; PREPARE TRANSACTION 'many'");
sql(q{COMMIT PREPARED 'many'});
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'many-%' AND status = 'succeed'}, '700',
	name => '700 of one prepared transaction', timeout => 20);
is($service->calls(path => '/many'), 700, 'each called once');
sql("SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url('/plenty')
	  . "')), gid => 'plenty-' || i) FROM generate_series(1, 700) AS i");
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE gid LIKE 'plenty-%' AND status = 'succeed'}, '700',
	name => '700 of one transaction', timeout => 20);
is($service->calls(path => '/plenty'), 700, 'each called once');

$start = time();
sql(q{COMMIT PREPARED 'first'});
check_prompt('first', $start);
is(sql('SELECT count(*) FROM dtm.live'), '0', 'nothing is left');

done_testing();
