# -------------------------------------------------------------------------
#
# 102_topics.pl
#		Topics: scenario S15 over HTTP, a subscriber that is away, a crash
#		between the subscribers.
#
# Not here: arguments, privileges and what is refused (test/sql/topics.sql).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use Test::More;

my $node = new_node(conf => "dtm.retry_interval = '200ms'\ndtm.retry_max_interval = '1s'", fsync => 1);
my $service = start_service(node => $node);

sub value { return $node->safe_psql('postgres', $_[0]); }

sub publish
{
	my ($gid, $more) = @_;

	return value("SELECT dtm_msg_submit('[{\"action\": \"topic://order.paid\", \"payload\": {\"gid\": \"$gid\"}}]', gid => '$gid'"
		  . ($more ? ", $more" : '') . ')');
}

sub subscribe { value("SELECT dtm_topic_subscribe('order.paid', '" . $service->url("/effect/$_") . "', 'team $_')") for @_; return; }
sub unsubscribe { value("SELECT dtm_topic_unsubscribe('order.paid', '" . $service->url("/effect/$_") . "')") for @_; return; }
sub ids { return value("SELECT string_agg(branch_id, ' ' ORDER BY branch_id) FROM dtm.branches WHERE gid = '$_[0]'"); }

# "01-01 shipping, 01-02 points": who was called, in order.
sub called
{
	return join(', ', map { $_->{query}{branch_id} . ' ' . $_->{path} =~ s{^/effect/}{}r } $service->calls(gid => $_[0]));
}

# ---- S15

subscribe(qw(shipping points mail));
publish('three');
wait_status($node, 'three', 'succeed');
is(ids('three'), '01-01 01-02 01-03', 'three subscribers: three branches');
is(called('three'), '01-01 shipping, 01-02 points, 01-03 mail', 'called in the order of their subscriptions');
is(join(' ', map { $_->{method} . ' ' . $_->{body} } $service->calls(gid => 'three', branch_id => '01-02')),
	'POST {"gid": "three"}', 'each with the payload');

publish('frozen', "delay => '1500 ms'");
subscribe('fraud');
publish('four');
wait_status($node, 'four', 'succeed');
is(called('four'), '01-01 shipping, 01-02 points, 01-03 mail, 01-04 fraud', 'the fourth too');
unsubscribe('points');
publish('again-three');
wait_status($node, 'again-three', 'succeed');
is(called('again-three'), '01-01 shipping, 01-02 mail, 01-03 fraud', 'one less');
publish('kept', "delay => '1500 ms'");
value("SELECT dtm_topic_drop('order.paid')");
my ($rc, $stdout, $stderr) = $node->psql('postgres', "SELECT dtm_msg_submit('[{\"action\": \"topic://order.paid\"}]', gid => 'nobody')");
isnt($rc, 0, 'a message to nobody is refused');
like($stderr, qr/topic not found/, 'and told why');
is(value("SELECT count(*) FROM dtm.transactions WHERE gid = 'nobody'"), 0, 'nothing is stored');
wait_status($node, $_, 'succeed') for 'frozen', 'kept';
is(called('frozen'), '01-01 shipping, 01-02 points, 01-03 mail', 'what was submitted before goes to those of that time');
is(called('kept'), '01-01 shipping, 01-02 mail, 01-03 fraud', 'also after the topic has gone');
is(join(', ', effects($node, 'kept')), 'action 01-01, action 01-02, action 01-03', 'each behind the barrier by its branch id');

# ---- one subscriber is away, then the server crashes

subscribe(qw(one two three));
$service->script('/effect/two', { answers => [ { status => 503, before => 1 }, { hang => 1 } ] });
publish('crash', "request_timeout => '20 s'");
wait_until(sub { scalar $service->calls(gid => 'crash', path => '/effect/two') == 2 }, 'the second is called again');
value("SELECT dtm_topic_drop('order.paid')");
immediate_stop_start($node);
wait_status($node, 'crash', 'succeed');
is(join(', ', effects($node, 'crash')), 'action 01-01, action 01-02, action 01-03', 'each effect once');

# ---- subscriptions go with a dump

subscribe('dumped');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'dumped');
$node->safe_psql('postgres', 'CREATE DATABASE restored');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'restored');
is($node->safe_psql('restored', 'SELECT topic, remark FROM dtm.topics'), 'order.paid|team dumped', 'with its subscriber');
$node->safe_psql('restored', "SELECT dtm_topic_subscribe(t, 'http://127.0.0.1:9/') FROM unnest('{order.paid, new}'::text[]) AS t");
is($node->safe_psql('restored', 'SELECT topic, version FROM dtm.topic_version ORDER BY id'),
	"order.paid|2\nnew|1", 'which is counted on, as are topics');

$node->stop;
done_testing();
