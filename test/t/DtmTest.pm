# -------------------------------------------------------------------------
#
# DtmTest.pm
#		What the TAP tests share: a cluster with dtm_pg, scripted HTTP
#		services, and waiting by polling.
#
#	use DtmTest;
#	use Test::More;
#	my $node = new_node();
#	my $stock = start_service();
#	$stock->script('/deduct', { answers => [ { status => 500 } ] });
#	submit_saga($node, [ { action => $stock->url('/deduct') } ], gid => 'g1');
#	wait_status($node, 'g1', 'succeed');
#	is_deeply([ $stock->ops ], [ 'action 01 /deduct', 'action 01 /deduct' ], 'asked twice');
#	done_testing();
#
# The waiting functions are tests themselves: they report ok or not ok.
#
# -------------------------------------------------------------------------
package DtmTest;

use strict;
use warnings;
use Exporter 'import';
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use JSON::PP;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(new_node install_extension start_service submit_saga wait_for wait_until
  wait_status wait_log immediate_stop_start sql_literal effects);

our $timeout = $ENV{DTM_TEST_TIMEOUT} || 60;    # seconds until a wait gives up

my $cluster_class;

BEGIN
{
	# The modules had other names until PostgreSQL 14.
	if (eval { require PostgreSQL::Test::Cluster; require PostgreSQL::Test::Utils; 1 })
	{
		$cluster_class = 'PostgreSQL::Test::Cluster';
	}
	else
	{
		require PostgresNode;
		require TestLib;
		$cluster_class = 'PostgresNode';
	}
}

# A cluster.  Options:
#   name       => 'main'
#   preload    => 1         shared_preload_libraries = 'dtm_pg'
#   conf       => ''        further lines of postgresql.conf
#   fsync      => 0
#   streaming  => 0         may be the source of a standby or of a backup
#   start      => 1         start it, and
#   extension  => 1         CREATE EXTENSION dtm_pg in database postgres
sub new_node
{
	my %opts = (name => 'main', preload => 1, conf => '', fsync => 0, start => 1,
		extension => 1, streaming => 0, @_);
	my $node = $cluster_class->can('get_new_node')
	  ? $cluster_class->get_new_node($opts{name})
	  : $cluster_class->new($opts{name});

	# whatever the machine's locale is: texts of the tests are UTF-8
	$node->init(($opts{streaming} ? (allows_streaming => 1) : ()),
		extra => [ '--encoding=UTF8', '--locale=C' ]);
	$node->append_conf('postgresql.conf', join "\n",
		($opts{preload} ? "shared_preload_libraries = 'dtm_pg'" : ()),
		'shared_buffers = 16MB', 'max_connections = 50', 'max_worker_processes = 16',
		'max_wal_size = 128MB', 'log_statement = none', 'autovacuum_naptime = 5s',
		"timezone = 'UTC'", "log_line_prefix = '%m [%p] %b %d '",
		'fsync = ' . ($opts{fsync} ? 'on' : 'off'), $opts{conf}, '');
	if ($opts{start})
	{
		$node->start;
		install_extension($node, 'postgres') if $opts{extension};
	}
	return $node;
}

sub install_extension
{
	my ($node, $dbname) = @_;

	$node->safe_psql($dbname, 'CREATE EXTENSION dtm_pg');
	return;
}

# As after a power cut: no shutdown checkpoint, no goodbye to any process.
sub immediate_stop_start
{
	my ($node) = @_;

	$node->stop('immediate');
	$node->start;
	return;
}

sub sql_literal
{
	my ($text) = @_;

	return 'NULL' unless defined $text;
	$text =~ s/'/''/g;
	return "'$text'";
}

# Submit; dies when the database refuses.  Options: gid, concurrent, dbname,
# user, and options => 'retry_interval => ''1 s''' as SQL text.
sub submit_saga
{
	my ($node, $steps, %opts) = @_;
	my $json = ref $steps ? JSON::PP->new->canonical->encode($steps) : $steps;
	my @arguments = (sql_literal($json) . '::jsonb');

	push @arguments, 'gid => ' . sql_literal($opts{gid}) if defined $opts{gid};
	push @arguments, 'concurrent => true' if $opts{concurrent};
	push @arguments, $opts{options} if defined $opts{options};
	return $node->safe_psql($opts{dbname} // 'postgres',
		'SELECT dtm_saga_submit(' . join(', ', @arguments) . ')',
		$opts{user} ? (extra_params => [ '-U', $opts{user} ]) : ());
}

# Poll until the code gives a true value; a test.
sub wait_until
{
	my ($code, $name, %opts) = @_;
	my $deadline = time() + ($opts{timeout} // $timeout);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	while (1)
	{
		my $value = $code->();
		if ($value)
		{
			pass($name);
			return $value;
		}
		last if time() > $deadline;
		usleep(50_000);
	}
	fail($name);
	return;
}

# Poll until the query gives the expected text ('t' unless given); a test.
# Errors, as of a server that is starting, are no answer yet.
sub wait_for
{
	my ($node, $query, $expected, %opts) = @_;
	my ($last, $errors) = ('', '');
	my $name = $opts{name} // $query;

	$expected //= 't';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $found = wait_until(
		sub {
			# psql may be gone before it has read the query (a broken pipe)
			my ($rc, $stdout, $stderr) = eval { $node->psql($opts{dbname} // 'postgres', $query) };
			return 0 unless defined $rc;
			($last, $errors) = ($stdout // '', $stderr // '');
			return $rc == 0 && $last eq $expected;
		},
		$name, %opts);
	diag("waited for: $query\nexpected: $expected\nlast: $last\n$errors") unless $found;
	return $found;
}

# Poll until the transaction has the status; a test.  Says what is known of it otherwise.
sub wait_status
{
	my ($node, $gid, $status, %opts) = @_;
	my $literal = sql_literal($gid);
	my $dbname = $opts{dbname} // 'postgres';

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $found = wait_for($node, "SELECT dtm_status($literal)", $status,
		name => "$gid: $status", %opts);
	if (!$found)
	{
		my ($rc, $stdout) = $node->psql($dbname,
			"SELECT branch_id, op, status, attempts, last_error FROM dtm.branches WHERE gid = $literal");
		diag("branches:\n" . ($stdout // ''));
		diag($node->psql($dbname, 'SELECT * FROM dtm.workers') // '');
	}
	return $found;
}

# Poll until the server's log has the pattern after the offset; a test.
sub wait_log
{
	my ($node, $pattern, $offset, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(
		sub {
			open my $log, '<', $node->logfile or return 0;
			seek $log, $offset // 0, 0;
			local $/;
			return <$log> =~ $pattern;
		},
		$name // "log has $pattern");
}

# What the services wrote behind their barriers: "op branch_id" in order of writing.
sub effects
{
	my ($node, $gid, %opts) = @_;

	return split /\n/, $node->safe_psql($opts{dbname} // 'postgres',
		"SELECT op || ' ' || branch_id FROM effects WHERE gid = " . sql_literal($gid) . ' ORDER BY id');
}

# A scripted service (test/service/service.py).  Options:
#   node   => $node, dbname => 'postgres'   /effect/... is protected by the barrier there
#   schema => 'public'                      where dtm_barrier lives
#   port   => 0                             a given one
sub start_service
{
	my %opts = (dbname => 'postgres', schema => 'public', port => 0, @_);
	my $service = bless { port => $opts{port}, arguments => [] }, 'DtmTest::Service';

	if ($opts{node})
	{
		$opts{node}->safe_psql($opts{dbname}, 'CREATE TABLE IF NOT EXISTS effects'
			  . ' (id bigserial PRIMARY KEY, gid text, branch_id text, op text, path text)');
		push @{ $service->{arguments} }, '--db', $opts{node}->connstr($opts{dbname}),
		  '--schema', $opts{schema};
	}
	$service->start;
	return $service;
}

# -------------------------------------------------------------------------
package DtmTest::Service;

use strict;
use warnings;
use HTTP::Tiny;
use IO::Handle;
use JSON::PP;

my %running;

# On the port of last time, if it had one.
sub start
{
	my ($self) = @_;
	my $program = DtmTest::abs_path(DtmTest::dirname(__FILE__) . '/../service/'
		  . ($self->{program} // 'service.py'));

	my $pid = open(my $out, '-|', '/usr/bin/python3', $program, '--port', $self->{port},
		@{ $self->{arguments} }) or die "could not start $program: $!";
	my $line = <$out> // '';
	($self->{port}) = $line =~ /^port (\d+)$/ or die "service said \"$line\" instead of its port";
	@$self{qw(pid out)} = ($pid, $out);
	$running{$pid} = $out;
	$self->{http} = HTTP::Tiny->new(timeout => 30);
	return;
}

# Connections are cut; the calls are forgotten.
sub stop
{
	my ($self) = @_;

	return unless $self->{pid};
	kill 'KILL', $self->{pid};
	delete $running{ $self->{pid} };
	{
		local ($?, $!);
		close delete $self->{out};
	}
	delete $self->{pid};
	return;
}

sub port { return $_[0]->{port}; }

sub url
{
	my ($self, $path) = @_;

	return "http://127.0.0.1:$self->{port}" . ($path // '');
}

sub control
{
	my ($self, $method, $path, $value) = @_;
	my $answer = $self->{http}->request($method, $self->url($path),
		defined $value ? { content => encode_json($value) } : {});

	die "service: $method $path: $answer->{status} $answer->{content}" unless $answer->{success};
	return $answer->{content};
}

# What was called, in order: hashes with method, path, query, body, headers,
# start, end, status, connection (see service.py).
# Arguments filter: path => '/x', gid => 'g1', op => 'action'.
sub calls
{
	my ($self, %filter) = @_;
	my $query = $self->{http}->www_form_urlencode(\%filter);

	return @{ decode_json($self->control('GET', "/_calls?$query")) };
}

# The same in one line each: "action 01 /deduct".
sub ops
{
	my ($self, %filter) = @_;

	return map { "$_->{query}{op} $_->{query}{branch_id} $_->{path}" } $self->calls(%filter);
}

# script('/x', { answers => [...], then => {...}, query => { op => 'action' } })
sub script
{
	my ($self, $path, $rule) = @_;

	$self->control('POST', '/_script', { %$rule, path => $path });
	return;
}

sub open_gate
{
	my ($self, $name) = @_;

	$self->control('POST', '/_open', { gate => $name });
	return;
}

sub reset
{
	my ($self) = @_;

	$self->control('POST', '/_reset');
	return;
}

# Poll until it was called that often; a test.
sub wait_calls
{
	my ($self, $count, %filter) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $filter = join ', ', map { "$_ $filter{$_}" } sort keys %filter;
	return DtmTest::wait_until(sub { return scalar($self->calls(%filter)) >= $count },
		"$count calls" . ($filter ? " of $filter" : ''));
}

END
{
	local ($?, $!);
	kill 'KILL', keys %running if %running;
}

1;
