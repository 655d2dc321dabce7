# -------------------------------------------------------------------------
#
# 025_standby.pl
#		A streaming standby shows the transactions and drives none; after
#		its promotion it goes on at once.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;
use Time::HiRes qw(time usleep);

my $conf = join "\n", "dtm.retry_interval = '200ms'", "dtm.request_timeout = '60s'";
my $primary = new_node(name => 'primary', streaming => 1, conf => $conf);
my $service = start_service();

sub steps { return [ map { { action => $service->url("/$_"), compensate => $service->url("/undo_$_") } } @_ ]; }

$primary->safe_psql('postgres', q{
	CREATE TABLE notes (gid text);
	CREATE FUNCTION note(payload jsonb) RETURNS void LANGUAGE sql AS
		$$ INSERT INTO public.notes SELECT public.dtm_context()->>'gid' $$});
$primary->backup('base');
my $standby = (ref $primary)->can('get_new_node') ? (ref $primary)->get_new_node('standby') : (ref $primary)->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

$service->script('/held', { then => { gate => 'held' } });
$service->script('/refuse', { then => { status => 409, body => 'no' } });
submit_saga($primary, steps('a'), gid => 'finished');
wait_status($primary, 'finished', 'succeed');
submit_saga($primary, steps('a', 'refuse'), gid => 'rolled-back');
wait_status($primary, 'rolled-back', 'failed');
submit_saga($primary, [ @{ steps('held') }, { action => 'sql:note' } ], gid => 'open');
submit_saga($primary, steps('later'), gid => 'soon', options => q{start_after => '2 s'});
$service->wait_calls(1, gid => 'open');
$primary->wait_for_catchup($standby);

# ------------------------------------------------------------- as a standby
is($standby->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dtm_pg%'}), '0',
	'a standby has no workers');
is($standby->safe_psql('postgres', 'SELECT gid, status FROM dtm.transactions ORDER BY gid'),
	"finished|succeed\nopen|submitted\nrolled-back|failed\nsoon|submitted", 'dtm.transactions can be read');
is($standby->safe_psql('postgres', q{SELECT status FROM dtm.branches WHERE gid = 'finished' AND op = 'action'}), 'succeed',
	'dtm.branches can be read');
for my $query ('SELECT * FROM dtm.stuck', 'SELECT * FROM dtm.statistics', 'SELECT * FROM dtm.workers',
	q{SELECT * FROM dtm_timeline('finished')}, q{SELECT dtm_status('open')}, q{SELECT dtm_result('finished')},
	q{SELECT dtm_wait('finished')})
{
	my ($rc, $stdout, $stderr) = $standby->psql('postgres', $query);

	is($rc, 0, $query) or diag($stderr);
}
for my $query (q{SELECT dtm_saga_submit('[{"action": ""}]')}, q{SELECT dtm_retry('open')}, q{SELECT dtm_stop('open')},
	q{SELECT dtm_resume()}, q{SELECT dtm_barrier('saga', 'g', '01', 'action')})
{
	my ($rc, $stdout, $stderr) = $standby->psql('postgres', "\\set VERBOSITY verbose\n$query");

	like($stderr, qr/ERROR:  25006:/, "$query: refused as read-only");
}
usleep(2_500_000);
is($service->calls(gid => 'open'), 1, 'the standby called nobody');

# ---------------------------------------------------------------- promotion
my $calls = scalar $service->calls;
$primary->stop('immediate');
my $start = time();
$standby->promote;
$service->wait_calls(2, gid => 'open');
cmp_ok(time() - $start, '<', 8, 'after the promotion it is taken over at once');
$service->open_gate('held');
wait_status($standby, 'open', 'succeed');
is($standby->safe_psql('postgres', q{SELECT count(*) FROM notes WHERE gid = 'open'}), '1', 'and its function runs once');
wait_status($standby, 'soon', 'succeed');
is($service->calls(gid => $_), $_ eq 'finished' ? 1 : 4, "$_: is not called again") for qw(finished rolled-back);
submit_saga($standby, steps('fresh'), gid => 'fresh');
wait_status($standby, 'fresh', 'succeed');
is($standby->safe_psql('postgres', q{SELECT state FROM dtm.workers WHERE worker = 0 ORDER BY state DESC LIMIT 1}), 'running', 'running');

done_testing();
