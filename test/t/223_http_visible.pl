# -------------------------------------------------------------------------
#
# 223_http_visible.pl
#		What a role sees over the HTTP API: its own transactions, with a token
#		or without; topics with their versions.
#
# Not here: who may change what (220_http_access.pl), changes of topics
# (222_http_topics.pl).
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;
use Test::More;

my $free = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', ReuseAddr => 1);
my $port = $free->sockport;
close $free;

my $node = new_node(conf => "dtm.http_listen = '127.0.0.1:$port'");
my $http = HTTP::Tiny->new(timeout => 30);

sub value { return $node->safe_psql('postgres', $_[0]); }

# The answer to a GET, decoded; token undef: without one.
sub get
{
	my ($path, $token) = @_;
	my $answer = $http->get("http://127.0.0.1:$port/api/dtmsvr/$path", { headers => defined $token ? { Authorization => "Bearer $token" } : {} });

	is($answer->{status}, 200, "$path: 200") or diag($answer->{content});
	return decode_json($answer->{content});
}

sub gids { return join ' ', sort map { $_->{gid} } @{ get('all?limit=100', $_[0])->{transactions} }; }

value(<<'SQL');
CREATE ROLE app_a;
CREATE ROLE app_b;
CREATE ROLE watcher IN ROLE pg_monitor;
SELECT dtm_grant(r) FROM unnest('{app_a, app_b}'::regrole[]) AS r;
SQL
my %token = map { $_ => value("SELECT dtm_http_token_create('$_', '$_')") } qw(app_a app_b watcher);
for my $who (qw(app_a app_b))
{
	my $answer = $http->post("http://127.0.0.1:$port/api/dtmsvr/prepare", {
		headers => { Authorization => "Bearer $token{$who}" },
		content => encode_json({ gid => "of-$who", trans_type => 'msg', query_prepared => 'http://127.0.0.1:9/', payloads => ['{"secret":1}'],
			steps => [ { action => 'http://127.0.0.1:9/x' } ] }) });
	is($answer->{status}, 200, "prepared by $who");
}
is($http->post("http://127.0.0.1:$port/api/dtmsvr/prepare", { content => encode_json({ gid => 'of-nobody', trans_type => 'tcc' }) })->{status}, 200, 'prepared by nobody');

# ---- one's own

is(get('query?gid=of-app_a', $token{app_a})->{transaction}{status}, 'prepared', 'its own');
my $others = get('query?gid=of-app_a', $token{app_b});
is($others->{transaction}, undef, 'another\'s is not there');
is_deeply($others->{branches}, [], 'nor are its branches');
is(get('query?gid=of-app_a')->{transaction}, undef, 'nor is it without a token');
is(gids($token{app_a}), 'of-app_a', 'all: its own');
is(gids($token{app_b}), 'of-app_b', 'likewise');
is(gids(), 'of-nobody', 'without a token: nobody\'s');
is(get('all?gid=of-app_a', $token{app_b})->{transactions}[0], undef, 'nor by its gid');

# ---- those of others

is(gids($token{watcher}), 'of-app_a of-app_b of-nobody', 'pg_monitor sees all');
value('GRANT app_a TO app_b');
is(gids($token{app_b}), 'of-app_a of-app_b', 'so does a member of a role what is its');
value('REVOKE app_a FROM app_b');
is(gids($token{app_b}), 'of-app_b', 'as long as it is one');
value('REVOKE SELECT ON dtm.transactions FROM app_b');
is($http->get("http://127.0.0.1:$port/api/dtmsvr/$_", { headers => { Authorization => "Bearer $token{app_b}" } })->{status}, 403, "$_: not without the right to the view")
  for 'all', 'query?gid=of-app_b';

# ---- topics

sub kv { return join ', ', map { "$_->{cat} $_->{k} $_->{version} " . join '+', map { "$_->{url}($_->{remark})" } @{ decode_json($_->{v}) } } @{ get($_[0], $_[1])->{kv} }; }

value("SELECT dtm_topic_subscribe('t', 'http://127.0.0.1:9/1', 'one'), dtm_topic_subscribe('t', 'http://127.0.0.1:9/2', NULL)");
value("SELECT dtm_topic_subscribe('u', 'http://127.0.0.1:9/1', '')");
is(kv('queryKV?cat=topics&key=t'), 'topics t 2 http://127.0.0.1:9/1(one)+http://127.0.0.1:9/2()', 'a topic with its subscribers');
value("SELECT dtm_topic_unsubscribe('u', 'http://127.0.0.1:9/1')");
is(kv('queryKV?cat=topics&key=u', $token{app_a}), 'topics u 2 ', 'one without');
is(kv('scanKV?cat=topics&limit=1'), 'topics u 2 ', 'the newest first');
is(kv('scanKV?cat=topics&limit=1&position=' . get('scanKV?cat=topics&limit=1')->{next_position}), 'topics t 2 http://127.0.0.1:9/1(one)+http://127.0.0.1:9/2()', 'then the next');
is(kv('queryKV?cat=other'), '', 'there is nothing else');
value("SELECT dtm_topic_drop('t')");
is(kv('queryKV?key=t'), '', 'one that is gone');

$node->stop;
done_testing();
