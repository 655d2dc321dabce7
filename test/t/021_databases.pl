# -------------------------------------------------------------------------
#
# 021_databases.pl
#		Several databases of one server: each that has the extension is
#		driven, found without a setting, and the others cost nothing.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;
use Time::HiRes qw(usleep);

my $node = new_node(extension => 0);
my $service = start_service();

sub sql { return $node->safe_psql('postgres', @_); }

sub steps { return [ map { { action => $service->url("/$_") } } @_ ]; }

# Worker processes but the launcher.
my $workers = q{SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('dtm_pg coordinator', 'dtm_pg executor')};

sub log_text
{
	my ($server, $offset) = @_;

	open my $log, '<', $server->logfile or die "log: $!";
	seek $log, $offset // 0, 0;
	local $/;
	return scalar <$log>;
}

# ------------------------------------------- many databases without it
sql("CREATE DATABASE plain_$_") for 1 .. 20;
my $offset = -s $node->logfile;
$node->restart;
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg launcher'}, '1', name => 'launcher');
wait_for($node, $workers, '0', name => 'databases without the extension keep no workers');
usleep(2_000_000);
is(sql($workers), '0', 'and none come back');
unlike(log_text($node, $offset), qr/WARNING|no place/, 'more databases than dtm.max_databases without it are no problem');

# found at once in one of the last, though all were looked at before
install_extension($node, 'plain_20');
wait_for($node, 'SELECT state FROM dtm.workers', 'running', dbname => 'plain_20', name => 'CREATE EXTENSION starts its worker',
	timeout => 10);

# -------------------------------------------------- two databases at once
install_extension($node, 'plain_1');
for my $i (1 .. 5)
{
	submit_saga($node, steps('a', 'b'), gid => "same-$i", dbname => $_) for qw(plain_1 plain_20);
}
for my $i (1 .. 5)
{
	wait_status($node, "same-$i", 'succeed', dbname => $_) for qw(plain_1 plain_20);
	is($service->calls(gid => "same-$i"), 4, "same-$i: each database drives its own of that gid");
}
is(sql(q{SELECT count(DISTINCT datname) FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator'}), '2',
	'two databases are driven, and no other');
is($node->safe_psql('plain_1', 'SELECT count(*) FROM dtm.workers'), '1', 'dtm.workers shows those of its own database');

# ------------------------------------------------------- created later
sql('CREATE DATABASE later');
install_extension($node, 'later');
submit_saga($node, steps('a'), gid => 'later', dbname => 'later');
wait_status($node, 'later', 'succeed', dbname => 'later', timeout => 10);

# with the extension and the first submit in one transaction
$node->safe_psql('plain_2', q{BEGIN; CREATE EXTENSION dtm_pg; SELECT dtm_saga_submit(jsonb_build_array(dtm_step('}
	  . $service->url('/a') . q{')), gid => 'at-once'); COMMIT});
wait_status($node, 'at-once', 'succeed', dbname => 'plain_2', timeout => 10);

# in another schema
$node->safe_psql('plain_3', 'CREATE SCHEMA elsewhere; CREATE EXTENSION dtm_pg SCHEMA elsewhere');
$node->safe_psql('plain_3', q{SELECT elsewhere.dtm_saga_submit(jsonb_build_array(elsewhere.dtm_step('}
	  . $service->url('/a') . q{')), gid => 'elsewhere')});
wait_for($node, q{SELECT elsewhere.dtm_status('elsewhere')}, 'succeed', dbname => 'plain_3', name => 'in another schema');

# rolled back
$node->safe_psql('plain_4', 'BEGIN; CREATE EXTENSION dtm_pg; ROLLBACK');
usleep(1_000_000);
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'plain_4'}), '0', 'CREATE EXTENSION that is rolled back starts nothing');

# a template is not driven, nor is one that takes no connections
install_extension($node, 'plain_5');
wait_for($node, 'SELECT state FROM dtm.workers', 'running', dbname => 'plain_5', name => 'plain_5 is driven');
sql(q{ALTER DATABASE plain_5 IS_TEMPLATE true});
sql('CREATE DATABASE from_template TEMPLATE plain_5');
wait_for($node, 'SELECT count(*) FROM dtm.workers', '1', dbname => 'from_template', name => 'the copy of a template has a worker');

# after a restart all of them are found again
$node->restart;
submit_saga($node, steps('a'), gid => "restarted-$_", dbname => $_) for qw(plain_1 plain_2 plain_20 later);
wait_status($node, "restarted-$_", 'succeed', dbname => $_) for qw(plain_1 plain_2 plain_20 later);
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator' AND datname = 'plain_5'}), '0',
	'a template is not driven');
unlike(log_text($node) =~ s/^.*due to administrator command$//mgr, qr/FATAL|PANIC|no place|no free/, 'and the log is quiet');
$node->stop;

# ---------------------------------------------------- too few places
# dtm.max_databases
my $small = new_node(name => 'small', extension => 0, conf => "dtm.max_databases = 1\nmax_worker_processes = 5");
$small->safe_psql('postgres', 'CREATE DATABASE second');
install_extension($small, 'postgres');
wait_for($small, q{SELECT state FROM dtm.workers}, 'running', name => 'the first database is driven');
$offset = -s $small->logfile;
install_extension($small, 'second');
wait_log($small, qr/WARNING:  dtm_pg has no place for another database.*HINT:  Raise dtm\.max_databases/s, $offset,
	'a second database: the log says what to raise');
submit_saga($small, steps('a'), gid => 'first');
wait_status($small, 'first', 'succeed');
$small->append_conf('postgresql.conf', 'dtm.max_databases = 2');
$small->restart;
submit_saga($small, steps('a'), gid => 'second', dbname => 'second');
wait_status($small, 'second', 'succeed', dbname => 'second');

# max_worker_processes: launcher and logical replication launcher take two of them
$small->adjust_conf('postgresql.conf', 'max_worker_processes', '2');
$offset = -s $small->logfile;
$small->restart;
wait_log($small, qr/WARNING:  dtm_pg could not start a coordinator.*HINT:  Raise max_worker_processes/s, $offset,
	'max_worker_processes too small: the log says what to raise');
my ($rc, $stdout, $stderr) = $small->psql('postgres', q{SELECT dtm_saga_submit('[{"action": ""}]', gid => 'stored')});
is($rc, 0, 'a submit is taken nevertheless');
usleep(2_500_000);
my $warnings = () = log_text($small, $offset) =~ /could not start a coordinator/g;
cmp_ok($warnings, '<=', 2, "said once, not again and again ($warnings)");
like($small->safe_psql('postgres', 'SELECT state FROM dtm.workers WHERE worker = 0'), qr/waiting to start|starting/,
	'dtm.workers shows that it could not start');
$small->adjust_conf('postgresql.conf', 'max_worker_processes', '8');
$small->restart;
wait_status($small, 'stored', 'succeed');

done_testing();
