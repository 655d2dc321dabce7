# -------------------------------------------------------------------------
#
# 201_alter_database.pl
#		Settings that belong to a database take effect with the commit of the
#		statement that gives them: its coordinators start anew, and no others.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use HTTP::Tiny;
use Test::More;

my $node = new_node(conf => join "\n", 'dtm.workers = 2', 'max_prepared_transactions = 0');
my $service = start_service();
my $port = ref($node)->can('get_free_port')->();
my $listen = "127.0.0.1:$port";
my $http = HTTP::Tiny->new(timeout => 5, keep_alive => 0);
my $next = 0;

sub sql { return $node->safe_psql('postgres', @_); }

$node->safe_psql('postgres', 'CREATE DATABASE other');
install_extension($node, 'other');
$node->safe_psql('postgres', 'CREATE ROLE plain LOGIN');

sub pids
{
	my ($dbname) = @_;

	return sql("SELECT string_agg(pid::text, ' ' ORDER BY pid) FROM pg_stat_activity"
		  . " WHERE backend_type = 'dtm_pg coordinator' AND datname = '$dbname'");
}

# All are there and have nothing left to hear of: sagas of each have gone through.
sub settled
{
	for my $dbname ('postgres', 'other')
	{
		wait_for($node, 'SELECT count(*) FROM dtm.workers WHERE state = \'running\'', 2,
			dbname => $dbname, name => "coordinators of $dbname run");
		for (1 .. 2)
		{
			my $gid = 'g' . ++$next;

			submit_saga($node, [ { action => $service->url('/fine') } ], gid => $gid, dbname => $dbname);
			wait_status($node, $gid, 'succeed', dbname => $dbname);
		}
	}
	return;
}

# What a statement does to the coordinators: those of the databases named start anew, the others do not.
sub restarts
{
	my ($name, $code, @dbnames) = @_;
	my %before = map { $_ => pids($_) } ('postgres', 'other');
	my %anew = map { $_ => 1 } @dbnames;

	$code->();
	for my $dbname (@dbnames)
	{
		wait_until(
			sub {
				my $now = pids($dbname);
				my %old = map { $_ => 1 } split / /, $before{$dbname};
				return 2 == grep { !$old{$_} } split / /, $now;
			},
			"$name: $dbname starts anew");
	}
	settled();
	for my $dbname (grep { !$anew{$_} } 'postgres', 'other')
	{
		is(pids($dbname), $before{$dbname}, "$name: $dbname does not start anew");
	}
	return;
}

sub answers { return $http->get("http://$listen/api/ping")->{status} == 200; }

settled();

# ---- the port opens and closes

ok(!answers(), 'no port by default');
restarts('set', sub { sql("ALTER DATABASE postgres SET dtm.http_listen = '$listen'") }, 'postgres');
wait_until(\&answers, 'the port is open');

# from another database, with a transaction on its way
$service->script('/wait', { then => { gate => 'wait' } });
submit_saga($node, [ { action => $service->url('/wait') } ], gid => 'flight');
$service->wait_calls(1, path => '/wait');
restarts('moved', sub {
	$node->safe_psql('other', "ALTER DATABASE postgres RESET dtm.http_listen; ALTER DATABASE other SET dtm.http_listen TO '$listen'");
}, 'postgres', 'other');
wait_until(\&answers, 'another database has the port');
$service->open_gate('wait');
wait_status($node, 'flight', 'succeed');

restarts('reset all', sub { sql('ALTER DATABASE other RESET ALL') }, 'other');
ok(!answers(), 'the port is closed');

# ---- other ways to say it

restarts('role', sub { sql("ALTER ROLE ALL IN DATABASE other SET dtm.http_listen = '$listen'") }, 'other');
wait_until(\&answers, 'open for ALTER ROLE as well');
restarts('role reset', sub { sql('ALTER ROLE ALL IN DATABASE other RESET dtm.http_listen') }, 'other');
ok(!answers(), 'and closed');
restarts('all roles', sub { sql('ALTER ROLE ALL SET "DTM.http_max_body" = 100') }, 'postgres', 'other');
restarts('all roles', sub { sql('ALTER ROLE ALL RESET dtm.http_max_body') }, 'postgres', 'other');
restarts('their own role', sub { sql('ALTER ROLE CURRENT_USER IN DATABASE other SET dtm.http_max_body = 100') }, 'other');
restarts('their own role', sub { sql('ALTER ROLE CURRENT_USER IN DATABASE other RESET ALL') }, 'other');
restarts('in a function', sub {
	sql('DO $$ BEGIN EXECUTE \'ALTER DATABASE postgres SET dtm.http_max_connections = 7\'; END $$');
}, 'postgres');

# ---- with the commit, and not without it

my $session = DtmSession->new($node, 'postgres');
restarts('before the commit', sub {
	$session->query('BEGIN');
	$session->query('ALTER DATABASE postgres SET dtm.http_max_connections = 8');
});
restarts('commit', sub { $session->query('COMMIT') }, 'postgres');
restarts('rolled back', sub {
	$session->query('BEGIN');
	$session->query('ALTER DATABASE postgres SET dtm.http_max_connections = 9');
	$session->query('ROLLBACK');
});

# ---- what is none of their business

restarts('another setting', sub { sql("ALTER DATABASE postgres SET work_mem = '1MB'; ALTER DATABASE other RESET work_mem") });
restarts('another role', sub { sql('ALTER ROLE plain SET dtm.http_max_body = 100') });
restarts('a reload', sub { sql("ALTER SYSTEM SET dtm.http_max_body = 200"); sql('SELECT pg_reload_conf()') });
restarts('without a right', sub {
	my ($rc) = $node->psql('postgres', 'ALTER DATABASE postgres SET dtm.http_max_body = 1', extra_params => [ '-U', 'plain' ]);
	is($rc, 3, 'refused');
});
restarts('a bad value', sub {
	my ($rc) = $node->psql('postgres', "ALTER DATABASE postgres SET dtm.http_listen = 'nowhere'");
	is($rc, 3, 'refused');
});

# ---- it is no failure

is(sql('SELECT count(*) FROM dtm.workers WHERE last_error IS NOT NULL'), 0, 'nothing went wrong');
open my $log, '<', $node->logfile or die $!;
my $lines = do { local $/; <$log> };
like($lines, qr/starts anew: its settings were changed/, 'the log says why');
unlike($lines, qr/terminating background worker/, 'nobody was killed');

done_testing();
