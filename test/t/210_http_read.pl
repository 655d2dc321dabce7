# -------------------------------------------------------------------------
#
# 210_http_read.pl
#		What the HTTP API only looks at: query, all with filters and pages,
#		scanKV, queryKV, and the metrics; whose transactions a request sees;
#		databases of other encodings.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use utf8;
use DtmTest;
use DtmWire;
use Encode;
use JSON::PP;
use MIME::Base64;
use Test::More;

my ($node, $wire) = wire_node(conf => "dtm.retry_interval = '200ms'\ndtm.http_max_body = '64MB'");
my $service = start_service();

sub sql { return $node->safe_psql('postgres', @_); }

sub all { my @parameters = @_; return decoded($wire->get('all', @parameters)); }

sub gids { return join ' ', map { $_->{gid} } @{ $_[0]->{transactions} }; }

# With a token, as a role.
sub as
{
	my ($token, $path) = @_;

	return $wire->request('GET', $path, undef, { Authorization => "Bearer $token" });
}

# ------------------------------------------------------------------ query
is_answer($wire->get('query', gid => 'nobody'), 200, '{"branches":[],"transaction":null}', 'query of a gid that is not there');
is_error($wire->get('query'), 'no gid specified', 'query without a gid');
is_answer($wire->get('query', gid => "\xC3("), 200, '{"branches":[],"transaction":null}', 'query of what is no text');

is_success($wire->post(submit => { gid => 'wire', trans_type => 'saga', steps($service, 'a', 'b', 'c'),
	custom_data => '{"concurrent":true,"orders":{"2":[0,1]}}', branch_headers => { 'X-Trace' => 'é"1' },
	retry_interval => 7, timeout_to_fail => 900, wait_result => JSON::PP::true }), 'a saga over the wire');
wait_status($node, 'wire', 'succeed');
my $shown = $wire->query('wire');
my $trans = $shown->{transaction};
is_deeply([ @$trans{qw(gid trans_type status protocol concurrent)} ], [ 'wire', 'saga', 'succeed', 'http', JSON::PP::false ], 'what it is');
is_deeply(decode_json(encode('UTF-8', $trans->{options})), { branch_headers => { 'X-Trace' => 'é"1' }, concurrent => JSON::PP::true,
	retry_interval => 7, timeout_to_fail => 900, wait_result => JSON::PP::true }, 'its options');
is_deeply(decode_json($trans->{custom_data}), { concurrent => JSON::PP::true, orders => { 2 => [ 0, 1 ] } }, 'its order');
is($trans->{next_cron_interval}, 7, 'its interval');
like($trans->{$_}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/, $_) for qw(create_time update_time finish_time);
ok(!exists $trans->{$_}, "no $_") for qw(rollback_time rollback_reason result query_prepared);
is($trans->{next_cron_time}, $trans->{finish_time}, 'no round comes after the last one');
is_deeply([ $wire->branches('wire') ],
	[ '01 compensate prepared', '01 action succeed', '02 compensate prepared', '02 action succeed', '03 compensate prepared', '03 action succeed' ],
	'its branches, compensate first');
is_deeply([ map { decode_base64($_->{bin_data}) } @{ $shown->{branches} }[ 0, 1, 5 ] ], [ '{"for":"a"}', '{"for":"a"}', '{"for":"c"}' ], 'payloads in base64');
is($shown->{branches}[1]{url}, $service->url('/a'), 'URLs');
my @ids = map { $_->{id} } @{ $shown->{branches} };
is_deeply(\@ids, [ sort { $a <=> $b } @ids ], 'their ids ascend');
is(scalar(grep { $_ < 2**31 } @ids, $trans->{id}), 7, 'and fit 31 bits');
is(scalar(grep { exists $_->{finish_time} } @{ $shown->{branches} }), 3, 'those that are over have a time');

# rolled back, retried, and begun by SQL
$service->script('/refuses', { then => { status => 409, body => 'no "stück"' } });
$service->script('/down', { then => { status => 500 } });
is_success($wire->post(submit => { gid => 'refused', trans_type => 'saga', steps($service, 'a', 'refuses') }), 'one that fails');
wait_status($node, 'refused', 'failed');
$trans = $wire->trans('refused');
ok($trans->{rollback_time} && !$trans->{finish_time}, 'rolled back: its time is another member');
like($trans->{rollback_reason}, qr/no "stück"/, 'with the reason');
sql("SELECT dtm_saga_submit('[{\"action\": \"@{[ $service->url('/down') ]}\", \"payload\": {\"n\": 1}}]', gid => 'by-sql')");
wait_for($node, q{SELECT attempts > 2 FROM dtm.branches WHERE gid = 'by-sql' AND op = 'action'}, 't', name => 'one that is repeated');
$trans = $wire->trans('by-sql');
is($trans->{status}, 'submitted', 'submitted by SQL, seen over the wire');
ok($trans->{next_cron_time}, 'with the time of the next attempt');
is(sql(q{SELECT status FROM dtm.transactions WHERE gid = 'wire'}), 'succeed', 'submitted over the wire, seen by SQL');
is(decode('UTF-8', sql(q{SELECT options FROM dtm.trans_global WHERE gid = 'wire'})), $wire->trans('wire')->{options}, 'and in dtm.trans_global');
is(sql(q{SELECT string_agg(id % 2147483648 || '', ' ' ORDER BY id) FROM dtm.trans_branch_op WHERE gid = 'wire'}), "@ids", 'the same ids there');
is_success($wire->post(submit => { gid => 'msg', trans_type => 'msg', steps => [ { action => $service->url('/later') } ], payloads => ['{}'],
	custom_data => '{"delay":3600}', query_prepared => $service->url('/asked') }), 'a message with a delay');
$trans = $wire->trans('msg');
is($trans->{custom_data}, '{"delay":3600}', 'its delay');
is($trans->{query_prepared}, $service->url('/asked'), 'who is asked about it');

# a workflow that its client runs: bytes in, bytes noted, bytes out
my $bytes = "\x00\xFF\xE9";
is($wire->post(prepareWorkflow => { gid => 'flow', trans_type => 'workflow', query_prepared => $service->url('/resume'),
	custom_data => encode_json({ name => 'wf1', data => encode_base64($bytes, '') }) })->{status}, 200, 'a workflow');
is_success($wire->post(registerBranch => { gid => 'flow', trans_type => 'workflow', branch_id => '01', op => 'pay', status => 'succeed', data => 'noted' }),
	'a branch of it');
is_success($wire->post(submit => { gid => 'flow', trans_type => 'workflow', req_extra => { status => 'succeed', result => encode_base64($bytes, '') } }),
	'its end');
$shown = $wire->query('flow');
is_deeply(decode_json($shown->{transaction}{custom_data}), { name => 'wf1', data => encode_base64($bytes, '') }, 'its name and input');
is($shown->{transaction}{result}, encode_base64($bytes, ''), 'its result');
is($shown->{transaction}{query_prepared}, $service->url('/resume'), 'its callback');
is_deeply([ map { [ @$_{qw(branch_id op status)}, decode_base64($_->{bin_data}) ] } @{ $shown->{branches} } ], [ [ '01', 'pay', 'succeed', 'noted' ] ],
	'what it has noted');
is(sql(q{SELECT encode(decode(g.result, 'base64'), 'hex') || b.op || encode(b.bin_data, 'escape') FROM dtm.trans_global AS g
	JOIN dtm.trans_branch_op AS b USING (gid) WHERE gid = 'flow'}), '00ffe9paynoted', 'likewise in the views');

# longer than an answer may be: the payloads are left out
my $long = '"' . 'x' x 1_000_000 . '"';
is_success($wire->post(submit => { gid => 'long', trans_type => 'saga', payloads => [ ($long) x 7 ],
	steps => [ map { { action => $service->url('/down'), compensate => '' } } 1 .. 7 ] }), 'seven megabytes of payloads');
$shown = $wire->query('long');
is(scalar(@{ $shown->{branches} }), 14, 'all its branches are shown');
is(scalar(grep { exists $_->{bin_data} } @{ $shown->{branches} }), 0, 'without payloads, which would be too much');
sql(q{SELECT dtm_stop('long'), dtm_stop('by-sql')});

# -------------------------------------------------------------------- all
is(gids(all()), 'long flow msg by-sql refused wire', 'all, newest first');
is(all()->{next_position}, '', 'there is no further page');
my $page = all(limit => 2);
is(gids($page), 'long flow', 'a page of two');
my $second = all(limit => 2, position => $page->{next_position});
is(gids($second), 'msg by-sql', 'the next one');
is(gids(all(limit => 2, position => $second->{next_position})), 'refused wire', 'the last two');
is(gids(all(gid => 'msg', status => 'failed', limit => 1)), 'msg', 'one by its gid, whatever else is asked');
is_answer($wire->get('all', gid => 'nobody', position => 'x9'), 500, '{"message":"convert to int error: x9"}', 'a position that is no number');
is_answer($wire->get('all', gid => 'nobody', position => '9'), 200, '{"next_position":"9","transactions":null}', 'a gid that is not there');
is(gids(all(status => 'failed')), 'long by-sql refused', 'by status');
is(gids(all(status => 'submitted')), 'msg', 'of those that are not over');
is(gids(all(status => 'prepared')), '', 'none of that status');
is(gids(all(transType => 'msg')), 'msg', 'by type');
is(gids(all(transType => 'msg', status => 'succeed')), '', 'by both');
is_answer($wire->get('all', status => 'lost'), 200, '{"next_position":"","transactions":[]}', 'a status that nothing has');
is_answer($wire->get('all', transType => 'lost'), 200, '{"next_position":"","transactions":[]}', 'likewise a type');
# three that are over, at the begin of a second, at its end, and at the begin of the next one
sql(q{UPDATE dtm.trans SET created_at = date_trunc('second', now()) - interval '1 hour' + CASE gid WHEN 'wire' THEN interval '0'
	WHEN 'refused' THEN interval '0.999999 s' ELSE interval '1 s' END WHERE gid IN ('wire', 'refused', 'by-sql')});
my $created = sql(q{SELECT extract(epoch FROM create_time)::bigint * 1000 FROM dtm.trans_global WHERE gid = 'wire'});
is(gids(all(createTimeStart => $created + 500)), 'long flow msg by-sql refused wire', 'created in that second or later');
is(gids(all(createTimeStart => $created + 1000)), 'long flow msg by-sql', 'later');
is(gids(all(createTimeEnd => $created + 1)), 'refused wire', 'in that second or earlier');
is(gids(all(createTimeEnd => $created + 999)), 'refused wire', 'likewise');
is(gids(all(createTimeStart => $created, createTimeEnd => $created)), 'refused wire', 'in that second');
is(gids(all(createTimeEnd => $created + 1000)), 'by-sql refused wire', 'or in the next one');
is(gids(all(createTimeEnd => $created - 1000)), '', 'or before');
is(gids(all(createTimeStart => '', createTimeEnd => '', status => '', transType => '', limit => 10)), 'long flow msg by-sql refused wire', 'empty ones do not count');

# ------------------------------------------------------ whose transactions
sql(q{CREATE ROLE app; CREATE ROLE other; CREATE ROLE watcher; GRANT pg_monitor TO watcher;
	SELECT dtm_grant('app'), dtm_grant('other'), dtm_grant('watcher')});
my %token = map { $_ => sql("SELECT dtm_http_token_create('$_', 'token of $_')") } qw(app other watcher);
sql(q{SET ROLE app; SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/", "payload": "card"}]', gid => 'app', start_after => '1 day',
	headers => '{"X-Key": "secret"}')});
my $own = decoded(as($token{app}, '/api/dtmsvr/query?gid=app'));
is($own->{transaction}{options}, '{"branch_headers":{"X-Key":"secret"},"concurrent":false}', 'a role sees its own, with its headers');
is(decode_base64($own->{branches}[1]{bin_data}), '"card"', 'and payloads');
is(gids(decoded(as($token{app}, '/api/dtmsvr/all'))), 'app', 'and nobody else\'s');
is_answer(as($token{other}, '/api/dtmsvr/query?gid=app'), 200, '{"branches":[],"transaction":null}', 'for another role it is not there');
is_answer(as($token{other}, '/api/dtmsvr/all?gid=app'), 200, '{"next_position":"","transactions":null}', 'nor in all');
is_answer(as($token{other}, '/api/dtmsvr/all'), 200, '{"next_position":"","transactions":[]}', 'which is empty');
is($wire->trans('app'), undef, 'a request without a token sees what the owner of the extension has submitted, though that may see all by SQL');
is(gids(all()), 'long flow msg by-sql refused wire', 'also in all');
my $watched = decoded(as($token{watcher}, '/api/dtmsvr/query?gid=app'));
is($watched->{transaction}{options}, '{"branch_headers":{"X-Key":"***"},"concurrent":false}', 'pg_monitor sees that there are headers');
ok(!exists $watched->{branches}[1]{bin_data}, 'and no payloads');
is(gids(decoded(as($token{watcher}, '/api/dtmsvr/all?limit=2'))), 'app long', 'of all transactions');

# ------------------------------------------------------------------ topics
is_answer($wire->get('scanKV'), 200, '{"kv":[],"next_position":""}', 'no topics');
is_success($wire->get('subscribe', topic => $_->[0], url => $service->url($_->[1]), remark => $_->[2]), "subscribe $_->[0]")
  for [ 't1', '/s1', 'one' ], [ 't2', '/s2', 'zwei "2"' ], [ 't1', '/s3', '' ];
my $kv = decoded($wire->get('scanKV', cat => 'topics', limit => 1));
is(join(' ', map { $_->{k} } @{ $kv->{kv} }), 't2', 'scanKV, newest first');
is_deeply(decode_json($kv->{kv}[0]{v}), [ { url => $service->url('/s2'), remark => 'zwei "2"' } ], 'its value is text of JSON');
$kv = decoded($wire->get('scanKV', cat => 'topics', limit => 1, position => $kv->{next_position}));
is(join(' ', map { "$_->{cat} $_->{k} $_->{version}" } @{ $kv->{kv} }), 'topics t1 2', 'the next page');
$kv = decoded($wire->get('queryKV', cat => 'topics', key => 't1'));
is(scalar(@{ decode_json($kv->{kv}[0]{v}) }), 2, 'queryKV of one');
is(scalar(@{ decoded($wire->get('queryKV'))->{kv} }), 2, 'of all');
is_answer($wire->get('queryKV', cat => 'topics', key => 'none'), 200, '{"kv":[]}', 'of one that is not there');
is_answer($wire->get('scanKV', cat => 'others'), 200, '{"kv":[],"next_position":""}', 'of another category');

# ------------------------------------------------------------ many of them
# rows as transactions leave them, without running so many
sql(q{INSERT INTO dtm.trans SELECT 100000 + g, 'bulk-' || g, 1, t.owner, now(), t.spec FROM dtm.trans AS t, generate_series(1, 25000) AS g WHERE t.gid = 'wire';
	INSERT INTO dtm.done SELECT 100000 + g, 1, CASE WHEN g = 1 THEN 5 ELSE 4 END, now(), now(), 3, 0, d.state
	FROM dtm.done AS d JOIN dtm.trans AS t ON t.id = d.id, generate_series(1, 25000) AS g WHERE t.gid = 'wire'});
my @found = ();
my $position = '';
my $pages = 0;
do
{
	$page = all(limit => 5000, position => $position);
	push @found, map { $_->{gid} } grep { $_->{gid} =~ /^bulk/ } @{ $page->{transactions} };
	$pages++;
	$position = $page->{next_position};
} while ($position ne '' && $pages < 100);
is(scalar(@found), 25000, 'all of them, page by page');
is($pages, 26, 'of at most a thousand rows');
is(join(' ', @found[ 0, 1, -1 ]), 'bulk-25000 bulk-24999 bulk-1', 'in order');

# a filter that little passes: a request looks at so many rows, and tells where to go on
$page = all(status => 'failed', limit => 1);
is(scalar(@{ $page->{transactions} }), 0, 'a page may be empty');
cmp_ok($page->{next_position}, '>=', 100000 + 15001, 'but says how far it got, which is no further than ten thousand rows');
$pages = 1;
while ($page->{next_position} ne '' && !@{ $page->{transactions} } && $pages < 100)
{
	$page = all(status => 'failed', limit => 1, position => $page->{next_position});
	$pages++;
}
is(gids($page), 'bulk-1', 'the one is found');
cmp_ok($pages, '>=', 3, 'in several requests');
is_success($wire->post(submit => { gid => 'beside', trans_type => 'saga', steps($service, 'a'), wait_result => JSON::PP::true }), 'it drives transactions beside that');

# ----------------------------------------------------------------- metrics
my $metrics = $wire->request('GET', '/api/metrics');
is($metrics->{status}, 200, 'metrics');
like($metrics->{headers}{'content-type'}, qr{^text/plain; version=0\.0\.4}, 'their type');

# Read the page as Prometheus does; what is wrong with it, or nothing.
sub read_metrics
{
	my ($content) = @_;
	my (%type, %help, %value, %last, @wrong);
	my $current = '';

	push @wrong, 'no newline at the end' unless $content =~ /\n\z/;
	for my $line (split /\n/, $content)
	{
		if ($line =~ /^# HELP ([a-z_]+) \S.*$/)
		{
			push @wrong, "HELP twice: $1" if $help{$1}++;
			$current = $1;
		}
		elsif ($line =~ /^# TYPE ([a-z_]+) (counter|gauge|histogram)$/)
		{
			push @wrong, "TYPE twice, or not behind its HELP: $1" if $type{$1} || $1 ne $current;
			$type{$1} = $2;
		}
		elsif ($line =~ /^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)+)\})? (-?[0-9.e+-]+)$/)
		{
			my ($name, $labels, $number) = ($1, $2 // '', $3);
			(my $base = $name) =~ s/_(bucket|sum|count)$// if ($type{$current} // '') eq 'histogram';

			push @wrong, "not with its others: $line" unless ($base // $name) eq $current;
			push @wrong, "there twice: $line" if exists $value{"$name\{$labels\}"};
			push @wrong, "a gid in a label: $line" if $labels =~ /wire|refused|bulk|gid/;
			$value{"$name\{$labels\}"} = $number;
			if ($labels =~ /^(.*),?le="([^"]+)"$/)
			{
				push @wrong, "not cumulative: $line" if defined $last{"$name $1"} && $last{"$name $1"} > $number;
				$last{"$name $1"} = $number;
				(my $rest = $1) =~ s/,$//;
				$value{"inf $base\{$rest\}"} = $number if $2 eq '+Inf';
			}
		}
		else { push @wrong, "no sample: $line"; }
	}
	for my $name (grep { /^inf / } keys %value)
	{
		(my $count = $name) =~ s/^inf ([a-z_]+)/$1_count/;
		push @wrong, "the last bucket is not the count: $name" if ($value{$count} // -1) != $value{$name};
	}
	return (\%value, @wrong);
}

my ($value, @wrong) = read_metrics($metrics->{content});
is_deeply(\@wrong, [], 'every line is what it should be');
cmp_ok($value->{'dtm_server_process_total{type="http",api="query",status="ok"}'}, '>', 5, 'requests are counted');
cmp_ok($value->{'dtm_server_process_total{type="http",api="query",status="fail"}'}, '==', 1, 'and those that failed');
is($value->{'dtm_server_response_duration_count{type="http",api="submit"}'},
	$value->{'dtm_server_process_total{type="http",api="submit",status="ok"}'}, 'their durations likewise');
cmp_ok($value->{'dtm_branch_process_total{model="saga",branchid="01",branchtype="action",status="ok"}'}, '>=', 3, 'calls of branches');
cmp_ok($value->{'dtm_branch_process_total{model="saga",branchid="02",branchtype="action",status="fail"}'}, '>=', 1, 'and those that failed');
cmp_ok($value->{'dtm_branch_process_total{model="saga",branchid="01",branchtype="compensate",status="ok"}'}, '>=', 1, 'also backwards');
cmp_ok($value->{'dtm_transaction_process_total{model="saga",status="ok"}'}, '>=', 2, 'rounds of transactions');
cmp_ok($value->{'dtm_transaction_process_total{model="saga",status="fail"}'}, '>=', 3, 'and those with a call that failed');
is($value->{'dtm_transaction_handled_duration_count{model="saga"}'}, $value->{'dtm_transaction_process_total{model="saga",status="ok"}'}
	  + $value->{'dtm_transaction_process_total{model="saga",status="fail"}'}, 'each has a duration');
cmp_ok($value->{'dtm_http_connections{}'}, '>=', 1, 'connections');
cmp_ok($value->{'dtm_transactions_finished_total{}'}, '>=', 3, 'transactions that are over');
is($value->{'dtm_coordinators{}'}, 1, 'coordinators');
like($metrics->{content}, qr/^dtm_server_info\{version="[0-9.]+",/m, 'the version');

# what clients ask for is no label
$wire->request('GET', '/api/dtmsvr/no-such-route?gid=x');
$wire->request('GET', '/api/dtmsvr/query?gid=made-up');
($value, @wrong) = read_metrics($wire->request('GET', '/api/metrics')->{content});
is_deeply(\@wrong, [], 'still well formed');
is($value->{'dtm_server_process_total{type="http",api="other",status="fail"}'}, 1, 'what is no route is counted as one');
is(scalar(grep { /made-up|no-such/ } keys %$value), 0, 'and has no label of its own');

# ---------------------------------------------------- other encodings
for my $encoding (qw(LATIN1 SQL_ASCII))
{
	my $name = lc $encoding;
	my $port = free_port();
	my $there = DtmWire->new($port);

	sql("CREATE DATABASE $name ENCODING '$encoding' LOCALE 'C' TEMPLATE template0");
	sql("ALTER DATABASE $name SET dtm.http_listen = '127.0.0.1:$port'");
	install_extension($node, $name);
	$there->wait_port("$encoding: the port answers");
	# é in the encoding of the database, given as bytes of UTF-8 by a client of that encoding
	$node->safe_psql($name, encode('UTF-8', q{SET client_encoding = UTF8;
		SELECT dtm_saga_submit('[{"action": "http://127.0.0.1:9/", "payload": {"who": "José"}}]', gid => 'é-1', start_after => '1 day',
		headers => '{"X-Who": "José"}'); SELECT dtm_stop('é-1', 'weil é')}));
	my $answer = $there->get('query', gid => "\xC3\xA9-1");
	ok(eval { decode('UTF-8', my $copy = $answer->{content}, Encode::FB_CROAK); 1 }, "$encoding: the answer is UTF-8");
	my $there_shown = decoded($answer);
	is($there_shown->{transaction}{gid}, 'é-1', "$encoding: found by its gid, and shown");
	is($there_shown->{transaction}{rollback_reason}, 'weil é', "$encoding: reason");
	like($there_shown->{transaction}{options}, qr/José/, "$encoding: headers");
	is(decode('UTF-8', decode_base64($there_shown->{branches}[1]{bin_data})), '{"who": "José"}', "$encoding: payload");
	is($node->safe_psql($name, q{SET client_encoding = UTF8; SELECT options LIKE '%Jos_"%' OR options LIKE '%Jos__"%' FROM dtm.trans_global}), 't',
		"$encoding: and in the view");
	is_answer($there->get('query', gid => "\xE2\x82\xAC"), 200, '{"branches":[],"transaction":null}', "$encoding: a gid that cannot be there");

	# bytes that are nothing in any encoding, as a restore may bring them
	$node->safe_psql($name, q{UPDATE dtm.trans SET spec = '\xff00ff'});
	$answer = decoded($there->get('query', gid => "\xC3\xA9-1"));
	is_deeply([ $answer->{transaction}{status}, $answer->{branches} ], [ 'failed', [] ], "$encoding: damaged columns are said, not thrown");
	like($answer->{transaction}{rollback_reason}, qr/cannot be read/, "$encoding: with words");
	is(scalar(@{ decoded($there->get('all'))->{transactions} }), 1, "$encoding: also in all");
}

done_testing();
