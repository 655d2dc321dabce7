# -------------------------------------------------------------------------
#
# 029_logical_replication.pl
#		A logical replica that gets the tables, as before a switch-over to a
#		new release, does not call the services a second time.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;
use Time::HiRes qw(usleep);

my $conf = join "\n", 'wal_level = logical', 'max_wal_senders = 10', 'max_replication_slots = 10',
  "dtm.retry_interval = '200ms'", "dtm.request_timeout = '30s'";
my $publisher = new_node(name => 'publisher', conf => $conf);
my $subscriber = new_node(name => 'subscriber', conf => $conf);
my $service = start_service();

sub steps { return [ map { { action => $service->url("/$_"), compensate => $service->url("/undo_$_") } } @_ ]; }

my $tables = 'dtm.trans, dtm.live, dtm.done, dtm.barrier';
$publisher->safe_psql('postgres', "ALTER TABLE dtm.barrier REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE $tables");
$service->script('/held', { then => { gate => 'held' } });
submit_saga($publisher, steps('held', 'b'), gid => 'before');
$service->wait_calls(1, gid => 'before');

my $connstr = $publisher->connstr('postgres');
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION " . sql_literal($connstr) . ' PUBLICATION p');
$subscriber->wait_for_subscription_sync($publisher, 's') if $subscriber->can('wait_for_subscription_sync');
wait_for($subscriber, q{SELECT count(*) FROM dtm.transactions WHERE gid = 'before'}, '1', name => 'copied');
submit_saga($publisher, steps('held', 'b'), gid => 'after');
$service->wait_calls(1, gid => 'after');
wait_for($subscriber, q{SELECT count(*) FROM dtm.transactions WHERE gid = 'after'}, '1', name => 'replicated');

# whoever starts there finds them in the tables
$subscriber->restart;
wait_for($subscriber, q{SELECT state, last_error FROM dtm.workers}, 'paused|restored: its transactions were not submitted here',
	name => 'the subscriber is paused');
usleep(1_000_000);
is($service->calls(path => '/held'), 2, 'nothing is called by the subscriber');
$service->open_gate('held');
wait_status($publisher, $_, 'succeed') for qw(before after);
wait_status($subscriber, $_, 'succeed') for qw(before after);
is($service->calls, 4, 'each step was called once, by the publisher');

# the switch-over
$service->script('/held', { then => { gate => 'switched' } });
submit_saga($publisher, steps('held', 'b'), gid => 'switched');
$service->wait_calls(1, gid => 'switched');
wait_for($subscriber, q{SELECT count(*) FROM dtm.live}, '1', name => 'replicated');
$publisher->stop;
$subscriber->safe_psql('postgres', q{ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s});
$subscriber->safe_psql('postgres', q{SELECT setval('dtm.trans_id_seq', (SELECT max(id) FROM dtm.trans)); SELECT dtm_resume()});
$service->wait_calls(2, gid => 'switched', path => '/held');
$service->open_gate('switched');
wait_status($subscriber, 'switched', 'succeed');
submit_saga($subscriber, steps('b'), gid => 'own');
wait_status($subscriber, 'own', 'succeed');

done_testing();
