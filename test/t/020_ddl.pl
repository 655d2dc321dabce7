# -------------------------------------------------------------------------
#
# 020_ddl.pl
#		DDL while the workers run: on databases, on the extension, on the
#		tables.  The workers step aside, come back, and do not haunt the log.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmSession;
use DtmTest;
use File::Basename qw(dirname);
use Test::More;
use Time::HiRes qw(time usleep);

my $node = new_node(conf => join "\n", "dtm.retry_interval = '100ms'", "dtm.request_timeout = '30s'");
my $service = start_service();
my $share = $node->config_data('--sharedir') . '/extension';

sub steps
{
	return [ map { { action => $service->url("/$_"), compensate => $service->url("/undo_$_") } } @_ ];
}

sub submit_sql
{
	my ($gid, $path) = @_;

	return "SELECT dtm_saga_submit(jsonb_build_array(dtm_step('" . $service->url($path) . "')), gid => '$gid')";
}

sub sql { return $node->safe_psql('postgres', @_); }

# A database with the extension and a running coordinator.
sub driven_database
{
	my ($name) = @_;

	sql("CREATE DATABASE $name");
	install_extension($node, $name);
	wait_for($node, 'SELECT state FROM dtm.workers', 'running', dbname => $name, name => "$name is driven");
	return;
}

sub coordinators
{
	my ($where) = @_;

	return "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dtm_pg coordinator' AND $where";
}

# A transaction goes through, at once.
sub check_driven
{
	my ($dbname, $gid) = @_;
	my $start = time();

	submit_saga($node, steps('alive'), gid => $gid, dbname => $dbname);
	wait_status($node, $gid, 'succeed', dbname => $dbname);
	cmp_ok(time() - $start, '<', 10, "$gid: soon");
	return;
}

sub log_from
{
	my ($offset) = @_;

	open my $log, '<', $node->logfile or die "log: $!";
	seek $log, $offset, 0;
	local $/;
	return scalar <$log>;
}

check_driven('postgres', 'before');

# --------------------------------------------------------- DROP DATABASE
driven_database('doomed');
$service->script('/held', { then => { gate => 'never' } });
submit_saga($node, steps('held'), gid => 'doomed', dbname => 'doomed');
$service->wait_calls(1, gid => 'doomed');
my $offset = -s $node->logfile;
my $start = time();
sql('DROP DATABASE doomed');
cmp_ok(time() - $start, '<', 5, 'DROP DATABASE with a running worker and a call out');

driven_database('forced');
my $session = DtmSession->new($node, 'forced');
$session->query('SELECT 1');
$start = time();
sql('DROP DATABASE forced WITH (FORCE)');
cmp_ok(time() - $start, '<', 5, 'DROP DATABASE WITH (FORCE), with a session in it');
$session->quit;

driven_database('busy');
$node->safe_psql('busy', q{CREATE FUNCTION slow(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(60)'});
submit_saga($node, [ { action => 'sql:slow' } ], gid => 'busy', dbname => 'busy');
wait_for($node, q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'busy' AND backend_type = 'dtm_pg executor' AND wait_event = 'PgSleep'},
	'1', name => 'a function runs');
$start = time();
sql('DROP DATABASE busy');
cmp_ok(time() - $start, '<', 5, 'DROP DATABASE while an executor runs a function');

# while its worker is about to start, at some point of that
for my $i (1 .. 8)
{
	sql('CREATE DATABASE young');
	install_extension($node, 'young');
	usleep($i * 5_000);
	sql('DROP DATABASE young' . ($i % 2 ? ' WITH (FORCE)' : ''));
}
is(sql(coordinators(q{datname = 'young'})), '0', 'DROP DATABASE right after CREATE EXTENSION, eight times');

# refused DDL: the worker comes back
driven_database('kept');
$session = DtmSession->new($node, 'kept');
$session->query('SELECT 1');
my ($rc, $stdout, $stderr) = $node->psql('postgres', 'DROP DATABASE kept');
like($stderr, qr/being accessed by other users/, 'DROP DATABASE is refused because of a session of a user');
check_driven('kept', 'refused');
$session->quit;

# by one who may not: the workers are not disturbed
sql('CREATE ROLE nobody LOGIN');
my $pid = sql(coordinators(q{datname = 'kept'}) =~ s/count\(\*\)/pid/r);
($rc, $stdout, $stderr) = $node->psql('postgres', 'DROP DATABASE kept', extra_params => [ '-U', 'nobody' ]);
like($stderr, qr/must be owner/, 'DROP DATABASE by a stranger is refused');
is(sql(coordinators("pid = $pid")), '1', 'and disturbs nobody');

# ------------------------------------------------------- RENAME, TABLESPACE
submit_saga($node, steps('held'), gid => 'renamed', dbname => 'kept');
$service->wait_calls(1, gid => 'renamed');
sql('ALTER DATABASE kept RENAME TO renamed');
$service->wait_calls(2, gid => 'renamed');
$service->open_gate('never');
wait_status($node, 'renamed', 'succeed', dbname => 'renamed');
check_driven('renamed', 'after-rename');

my $directory = $node->basedir . '/tablespace';
mkdir $directory or die "$directory: $!";
sql("CREATE TABLESPACE elsewhere LOCATION '$directory'");
$start = time();
sql('ALTER DATABASE renamed SET TABLESPACE elsewhere');
cmp_ok(time() - $start, '<', 10, 'ALTER DATABASE SET TABLESPACE');
check_driven('renamed', 'after-tablespace');

# ------------------------------------------------------- CREATE ... TEMPLATE
$service->reset;
$service->script('/held', { then => { gate => 'template' } });
submit_saga($node, steps('held'), gid => 'original', dbname => 'renamed');
$service->wait_calls(1, gid => 'original');
sql('CREATE DATABASE copy TEMPLATE renamed');
$service->wait_calls(2, gid => 'original');
wait_for($node, 'SELECT state FROM dtm.workers', 'paused', dbname => 'copy', name => 'the copy is paused');
like($node->safe_psql('copy', 'SELECT last_error FROM dtm.workers'), qr/restored or cloned from database \d+/, 'and says why');
($rc, $stdout, $stderr) = $node->psql('copy', submit_sql('in-copy', '/copy'));
is($stdout, 'in-copy', 'a submit in the copy is taken');
like($stderr, qr/WARNING:.*paused.*\n?HINT:.*dtm_resume/s, 'with a warning that says what to do');
$service->open_gate('template');
wait_status($node, 'original', 'succeed', dbname => 'renamed');
is(scalar($service->calls(path => '/copy')), 0, 'nothing is called from the copy');
is($node->safe_psql('copy', q{SELECT dtm_status('original')}), 'submitted', 'its copy of the transaction waits');
is(scalar($service->calls(gid => 'original')), 2, 'and was not called by it');
$node->safe_psql('copy', 'SELECT dtm_resume()');
wait_status($node, 'in-copy', 'succeed', dbname => 'copy');
wait_status($node, 'original', 'succeed', dbname => 'copy');
sql('DROP DATABASE copy');

# ------------------------------------------------------------ DROP EXTENSION
driven_database('changing');
$service->reset;
$service->script('/held', { then => { gate => 'extension' } });
submit_saga($node, steps('held'), gid => 'same', dbname => 'changing');
$service->wait_calls(1, gid => 'same');
$session = DtmSession->new($node, 'changing');
$session->query('BEGIN; DROP EXTENSION dtm_pg');
$service->open_gate('extension');    # its answer comes while the extension is locked
wait_until(sub { return ($service->calls(gid => 'same'))[0]->{end} }, 'the call is answered');
$session->query('ROLLBACK');
$session->quit;
wait_status($node, 'same', 'succeed', dbname => 'changing');
is($service->calls(gid => 'same'), 1, 'DROP EXTENSION that is rolled back: nothing is asked again');

# and installed again in the same second: the ids begin anew, with others in memory
$service->script('/old', { then => { gate => 'old' } });
submit_saga($node, steps('old', 'old_second'), gid => 'old', dbname => 'changing');
$service->wait_calls(1, gid => 'old');
$start = time();
$node->safe_psql('changing', 'DROP EXTENSION dtm_pg');
cmp_ok(time() - $start, '<', 5, 'DROP EXTENSION with a running worker and a call out');
install_extension($node, 'changing');
$node->safe_psql('changing', join ';', map { submit_sql("new-$_", '/new') } 1 .. 5);
$service->open_gate('old');
wait_status($node, "new-$_", 'succeed', dbname => 'changing') for 1 .. 5;
is($service->calls(gid => "new-$_"), 1, "new-$_ is called once") for 1 .. 5;
is($service->calls(path => '/old_second'), 0, 'what was dropped is not driven further');
is($node->safe_psql('changing', 'SELECT count(*) FROM dtm.transactions'), '5', 'the new tables have the new ones only');

# dropped for good: its workers leave
$node->safe_psql('changing', 'DROP EXTENSION dtm_pg');
wait_for($node, coordinators(q{datname = 'changing'}), '0', name => 'no worker stays where the extension was dropped');

# in one transaction, dropped and created
install_extension($node, 'changing');
check_driven('changing', 'again');
$node->safe_psql('changing', 'BEGIN; DROP EXTENSION dtm_pg; CREATE EXTENSION dtm_pg; COMMIT');
check_driven('changing', 'replaced');

# ---------------------------------------------------- ALTER EXTENSION UPDATE
for my $script ('dtm_pg--0.1.0--0.1.1.sql', 'dtm_pg--0.1.1--0.1.0.sql')
{
	open my $file, '>', "$share/$script" or die "$share/$script: $!";
	print $file "COMMENT ON SCHEMA dtm IS 'updated';\n";
	close $file;
}
$offset = -s $node->logfile;
$node->safe_psql('changing', q{ALTER EXTENSION dtm_pg UPDATE TO '0.1.1'});
submit_saga($node, steps('updated'), gid => 'updated', dbname => 'changing');
wait_log($node, qr/WARNING:  dtm_pg of version 0\.1\.0 does not drive an extension of another version/, $offset);
wait_for($node, q{SELECT last_error FROM dtm.workers}, 'the extension has another version than the library',
	dbname => 'changing', name => 'dtm.workers says why');
usleep(3_000_000);    # it tries again now and then, further and further apart
my $complaints = () = log_from($offset) =~ /does not drive an extension/g;
cmp_ok($complaints, '<=', 4, "the log is not flooded ($complaints)");
is($service->calls(gid => 'updated'), 0, 'nothing was called with an unknown version');
check_driven('renamed', 'other-version-elsewhere');
$node->safe_psql('changing', q{ALTER EXTENSION dtm_pg UPDATE TO '0.1.0'});
wait_status($node, 'updated', 'succeed', dbname => 'changing');
unlink map { "$share/$_" } 'dtm_pg--0.1.0--0.1.1.sql', 'dtm_pg--0.1.1--0.1.0.sql';

# -------------------------------------------------------- locks on the tables
$service->reset;
$session = DtmSession->new($node, 'renamed');
for my $lock ('LOCK TABLE dtm.live IN ACCESS EXCLUSIVE MODE', 'LOCK TABLE dtm.trans, dtm.live, dtm.done, dtm.timer',
	'LOCK TABLE dtm.done')
{
	(my $gid = $lock) =~ s/\W+/-/g;

	$service->script("/$gid", { then => { gate => $gid } });
	submit_saga($node, steps($gid, 'second'), gid => $gid, dbname => 'renamed');
	$service->wait_calls(1, gid => $gid);
	$session->query("BEGIN; $lock");
	$service->open_gate($gid);
	wait_until(sub { return ($service->calls(gid => $gid))[0]->{end} }, 'the call is answered');
	usleep(2_500_000);    # longer than any of the worker's own patience
	$session->query('COMMIT');
	wait_status($node, $gid, 'succeed', dbname => 'renamed');
	is($service->calls(gid => $gid, path => '/second'), 1, "$lock: goes on, the next step once");
}
$session->quit;
for my $ddl ('VACUUM FULL dtm.live', 'VACUUM FULL dtm.trans', 'REINDEX TABLE dtm.live', 'CLUSTER dtm.live USING live_pkey',
	'VACUUM FULL')
{
	my $gid = lc $ddl =~ s/\W+/-/gr;

	submit_saga($node, steps(map { "$gid-$_" } 1 .. 5), gid => $gid, dbname => 'renamed');
	$node->safe_psql('renamed', $ddl);
	wait_status($node, $gid, 'succeed', dbname => 'renamed');
}

# ------------------------------------------------------------------- the log
sql('DROP DATABASE renamed');
sql('DROP DATABASE changing');
check_driven('postgres', 'after');
$offset = -s $node->logfile;
usleep(3_000_000);
unlike(log_from($offset), qr/FATAL|PANIC|does not exist/, 'dropped databases do not haunt the log');
unlike(log_from(0), qr/PANIC|was terminated by signal|TRAP:|segfault/, 'no process crashed');

done_testing();
