# -------------------------------------------------------------------------
#
# 054_retry_race.pl
#		dtm_retry() right behind the submit of what starts later: the tick
#		that files it away must not overwrite the mark of the retry.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;

my $rounds = 150;
my $node = new_node();

$node->safe_psql('postgres',
	"CREATE FUNCTION fine(payload jsonb) RETURNS void LANGUAGE sql AS 'SELECT 1'");
$node->safe_psql('postgres', join "\n", map { (
	qq{SELECT dtm_saga_submit('[{"action": "sql:fine"}]', 'saga-$_', start_after => '1 hour');},
	qq{SELECT dtm_msg_submit('[{"action": "sql:fine"}]', 'msg-$_', delay => '1 hour');},
	qq{SELECT dtm_retry('saga-$_'), dtm_retry('msg-$_');}) } 1 .. $rounds);
wait_for($node, q{SELECT count(*) FROM dtm.transactions WHERE status = 'succeed'}, 2 * $rounds,
	name => 'every retry is heard');

# and one that is not retried waits
$node->safe_psql('postgres',
	q{SELECT dtm_saga_submit('[{"action": "sql:fine"}]', 'patient', start_after => '1 hour')});
is($node->safe_psql('postgres', q{SELECT status, next_run_at > now() + interval '50 min'
	FROM dtm.transactions WHERE gid = 'patient'}), 'submitted|t', 'the others wait for their time');

$node->stop;
done_testing();
