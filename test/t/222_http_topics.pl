# -------------------------------------------------------------------------
#
# 222_http_topics.pl
#		Topics over the HTTP API: subscribe, unsubscribe and deletion with the
#		words of DTM, versions, and that SQL and the wire see the same topics.
#
# Not here: lists of topics (scanKV, queryKV), messages to many subscribers
# (102_topics.pl), who may (220_http_access.pl).
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

my $node = new_node(conf => "dtm.http_listen = '127.0.0.1:$port'\ndtm.workers = 2");
my $http = HTTP::Tiny->new(timeout => 30);
my $service = start_service();

sub value { return $node->safe_psql('postgres', $_[0]); }

# "200 SUCCESS", or status and message of a refusal.
sub call
{
	my ($method, $path, $body) = @_;
	my $answer = $http->request($method, "http://127.0.0.1:$port/api/dtmsvr/$path", defined $body ? { content => encode_json($body) } : {});
	my $said = eval { decode_json($answer->{content}) } // {};

	return "$answer->{status} " . ($said->{message} // $said->{dtm_result} // $answer->{content});
}

sub topic
{
	my ($route, %parameters) = @_;
	return call('GET', "$route?" . $http->www_form_urlencode(\%parameters));
}

sub subscribers { return value("SELECT coalesce(string_agg(url || coalesce(' (' || remark || ')', ''), ', ' ORDER BY created_at), '-') FROM dtm.topics WHERE topic = '$_[0]'"); }
sub version { return value("SELECT coalesce((SELECT version FROM dtm.topic_version WHERE topic = '$_[0]'), 0)"); }

sub msg
{
	my ($gid, $topic) = @_;
	return call('POST', 'submit', { gid => $gid, trans_type => 'msg', wait_result => JSON::PP::true,
		steps => [ { action => "topic://$topic" } ], payloads => ['{}'] });
}

wait_until(sub { return $http->get("http://127.0.0.1:$port/api/ping")->{success}; }, 'the port is open');

# ---- words

my ($one, $two) = map { $service->url("/$_") } qw(one two);
is(topic('unsubscribe', topic => 't', url => $one), '500 no such a topic', 'there is none');
is(call('DELETE', 'topic/t'), '500 storage: NotFound', 'none to delete');
is(msg('m0', 't'), '500 topic not found', 'none to send to');
is(topic('subscribe', topic => 't', url => $one, remark => 'the first'), '200 SUCCESS', 'subscribed');
is(topic('subscribe', topic => 't', url => $one, remark => 'again'), '500 this url exists', 'once');
is(version('t'), 1, 'the version is 1');
is(topic('subscribe', topic => 't', url => $two), '200 SUCCESS', 'another one');
is(version('t'), 2, '... is 2');
is(subscribers('t'), "$one (the first), $two", 'SQL sees both');
is(topic('unsubscribe', topic => 't', url => "$one/else"), '500 no such an url ', 'one that is not there');
is(version('t'), 2, 'changes nothing');
is(topic('subscribe', topic => '', url => $one), '500 empty topic', 'no topic');
is(topic('subscribe', topic => 't'), '500 empty url', 'no URL');
is(topic('unsubscribe', url => $one), '500 empty topic', 'no topic');
is(topic('unsubscribe', topic => 't', url => ''), '500 empty url', 'no URL');

# ---- messages

is(msg('m1', 't'), '200 SUCCESS', 'a message');
is(join(' ', sort map { "$_->{query}{branch_id} $_->{path}" } $service->calls(gid => 'm1')), '01-01 /one 01-02 /two', 'goes to both');
is(topic('unsubscribe', topic => 't', url => $one), '200 SUCCESS', 'one less');
is(topic('unsubscribe', topic => 't', url => $two), '200 SUCCESS', 'none left');
is(version('t'), 4, 'the topic is there, with its version');
is(msg('m2', 't'), '500 topic not found', 'but leads nowhere');
is(value("SELECT count(*) FROM dtm.transactions WHERE gid IN ('m0', 'm2')"), 0, 'nothing is stored');
is(topic('unsubscribe', topic => 't', url => $two), '500 this topic is empty', 'it is empty');
is(topic('subscribe', topic => 't', url => $two), '200 SUCCESS', 'subscribed again');
is(version('t'), 5, 'counted on');
is(call('DELETE', 'topic/t'), '200 SUCCESS', 'deleted');
is(version('t') . ' ' . subscribers('t'), '0 -', 'it is gone');
is(topic('subscribe', topic => 't', url => $two), '200 SUCCESS', 'made anew');
is(version('t'), 1, 'counted from 1');

# ---- SQL and the wire

value("SELECT dtm_topic_subscribe('t', '$one')");
is(version('t'), 2, 'a subscription in SQL counts');
is(topic('subscribe', topic => 't', url => $one), '500 this url exists', 'and is seen');
value("SELECT dtm_topic_drop('t')");
is(topic('unsubscribe', topic => 't', url => $one), '500 no such a topic', 'so is its end');

# ---- what cannot be

like(topic('subscribe', topic => 't', url => $_->[0]), $_->[1], "no subscriber: $_->[0]")
  for [ 'nothing', qr/^500 .*url/ ], [ 'topic://other', qr/^500 .*is a topic/ ], [ 'http://169.254.169.254/', qr/^403 .*not allowed/ ],
  [ 'sql:public.nobody', qr/^403 / ], [ "http://x/\x{1}", qr/^(400|500) / ];
like(topic('subscribe', topic => $_, url => $one), qr/^500 /, 'no topic: ' . substr($_, 0, 10)) for 'a b', 'x' x 129;
is(value('SELECT count(*) FROM dtm.topic_version'), 0, 'nothing is stored');

# names that need to be written specially
is(topic('subscribe', topic => 'a/b?&=%', url => "$one?x=1&y=2#z"), '200 SUCCESS', 'an odd name');
is(subscribers('a/b?&=%'), "$one?x=1&y=2#z", 'is what it was');
is(call('DELETE', 'topic/a%2Fb%3F%26%3D%25'), '200 SUCCESS', 'deleted');

# ---- at once, through both workers: every change is counted, none twice

my %clients;
for my $n (1 .. 8)
{
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or die $!;
	print $socket "GET /api/dtmsvr/subscribe?topic=many&url=http%3A%2F%2F127.0.0.1%3A9%2F$_ HTTP/1.1\r\nHost: localhost\r\n\r\n" for $n, $n + 4, 'same';
	$clients{$n} = $socket;
}
my $seen = '';
for my $socket (values %clients)
{
	my $answers = '';
	$answers .= $_ while ($answers =~ s/HTTP\/1\.1 \d+ /$&/g) < 3 and sysread($socket, $_, 4096);
	$seen .= $answers;
}
my $done = () = $seen =~ /"SUCCESS"/g;
is(value("SELECT count(*) FROM dtm.topics WHERE topic = 'many'"), 13, 'each URL is there once');
is($done, 13, 'and said so once');
is(version('many'), 13, 'each change has its version');

$node->stop;
done_testing();
