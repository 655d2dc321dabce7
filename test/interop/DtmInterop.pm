# -------------------------------------------------------------------------
#
# DtmInterop.pm
#		What the tests with DTM's own SDKs share: a cluster that answers the
#		HTTP protocol, tools and downloads, and programs of other languages.
#
#	use FindBin;
#	use lib $FindBin::Bin;
#	use DtmTest;
#	use DtmInterop;
#	use Test::More;
#
#	my $go = need_tool('go', '/usr/local/go/bin');
#	my $cache = cache_dir('go');
#	run_step('build', [ $go, 'build', '-o', $program, '.' ], dir => $source,
#		env => { GOMODCACHE => "$cache/mod" });
#	my $node = interop_node(name => 'go');
#	my $service = start_program('shop', [ $program, 'serve' ], ready => qr/^port (\d+)/);
#	...
#	done_testing();
#
# A tool or a registry that is not there is a failure.  With
# DTM_INTEROP_OPTIONAL=1 in the environment the whole file is skipped instead.
#
# -------------------------------------------------------------------------
package DtmInterop;

use strict;
use warnings;
use Exporter 'import';
use Cwd qw(abs_path);
use DtmTest;
use File::Basename qw(dirname);
use File::Path qw(make_path);
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(interop_node dtm_address dtm_url dtm_request wait_port free_port need_tool
  interop_missing cache_dir build_dir run_step start_program rows);

my %port_of;    # of a node's HTTP API, by the node's address in memory

# ---------------------------------------------------------------- the cluster

# A port that nothing listens on now.
sub free_port
{
	my $socket = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 0)
	  or die "no port is free: $!";
	my $port = $socket->sockport;

	close $socket;
	return $port;
}

# A cluster with dtm_pg in database postgres whose HTTP API answers on a port
# of its own.  Options: those of DtmTest::new_node, and
#   tcp      => 0     the server listens on 127.0.0.1 too (for drivers that know
#                     no Unix sockets): port $node->port, any user without password
#   role     => 'shop'  a role for the services, as dtm_grant() makes them; it owns
#                     a schema of that name, and calls without a token act as it
# Retries come after one second unless conf says otherwise; two-phase commit is possible.
sub interop_node
{
	my %opts = (tcp => 0, role => 'shop', @_);
	my ($tcp, $role) = delete @opts{qw(tcp role)};
	my $port = free_port();

	$opts{conf} = join "\n", "dtm.http_listen = '127.0.0.1:$port'",
	  ($role ? "dtm.http_role = '$role'" : ()), "dtm.retry_interval = '1s'",
	  'max_prepared_transactions = 20',
	  ($tcp ? "listen_addresses = '127.0.0.1'" : ()), $opts{conf} // '';
	# the role has to be there before the first request, not before the start
	my $node = new_node(%opts, start => 0);
	$node->start;
	if ($role)
	{
		$node->safe_psql('postgres',
			"CREATE ROLE $role LOGIN; CREATE SCHEMA $role AUTHORIZATION $role");
	}
	install_extension($node, 'postgres');
	$node->safe_psql('postgres', "SELECT dtm_grant('$role')") if $role;
	$port_of{ $node + 0 } = $port;
	wait_port($node);
	return $node;
}

# "127.0.0.1:40001"
sub dtm_address
{
	my ($node) = @_;

	return "127.0.0.1:$port_of{ $node + 0 }";
}

# What an SDK is given as the server: "http://127.0.0.1:40001/api/dtmsvr".
# With a path: that path instead of /api/dtmsvr.
sub dtm_url
{
	my ($node, $path) = @_;

	return 'http://' . dtm_address($node) . ($path // '/api/dtmsvr');
}

# dtm_request($node, GET => '/query?gid=g1'), dtm_request($node, POST => '/submit', { ... }):
# (status, body decoded from JSON, body).  Paths are below /api/dtmsvr.
sub dtm_request
{
	my ($node, $method, $path, $body) = @_;
	my $answer = HTTP::Tiny->new(timeout => 30)->request($method, dtm_url($node) . $path,
		defined $body
		? { content => ref $body ? encode_json($body) : $body,
			headers => { 'Content-Type' => 'application/json' } }
		: {});
	my $value = eval { JSON::PP->new->utf8->allow_nonref->decode($answer->{content}) };

	return ($answer->{status}, $value, $answer->{content});
}

# Poll until the API answers; a test.
sub wait_port
{
	my ($node) = @_;
	my $url = dtm_url($node, '/api/ping');
	my $http = HTTP::Tiny->new(timeout => 5);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(sub { return $http->get($url)->{success} }, 'the HTTP API answers');
}

# A query's rows as "a|b" lines in a list.
sub rows
{
	my ($node, $query, %opts) = @_;

	return split /\n/, $node->safe_psql($opts{dbname} // 'postgres', $query);
}

# --------------------------------------------------------- tools and downloads

# Something that the test needs is not there: the end of the file, as a
# failure unless DTM_INTEROP_OPTIONAL=1 allows to skip it.
sub interop_missing
{
	my ($what) = @_;

	if ($ENV{DTM_INTEROP_OPTIONAL} && !Test::More->builder->current_test)
	{
		plan skip_all => $what;
	}
	if ($ENV{DTM_INTEROP_OPTIONAL})
	{
		pass("skipped: $what");
	}
	else
	{
		fail($what);
		diag('DTM_INTEROP_OPTIONAL=1 skips what cannot be had');
	}
	done_testing();
	exit($ENV{DTM_INTEROP_OPTIONAL} ? 0 : 1);
}

# The path of a program, looked for in PATH and in further directories.
sub need_tool
{
	my ($name, @directories) = @_;

	for my $directory (split(/:/, $ENV{PATH}), @directories)
	{
		return "$directory/$name" if -f "$directory/$name" && -x _;
	}
	interop_missing("$name is needed and not found in PATH"
		  . (@directories ? ", @directories" : ''));
	return;
}

# A directory for downloads that outlives the test and the tree, so that the
# next run needs no network.  DTM_INTEROP_CACHE names another place.
sub cache_dir
{
	my ($name) = @_;
	# Not below HOME: scripts/lib.sh gives the tests a throwaway one.
	my $top = $ENV{DTM_INTEROP_CACHE} || "/var/tmp/dtm_pg-interop-$>";

	mkdir $top, 0700;
	my @stat = lstat $top;
	# what another user could have put there must not be run
	die "$top is not a directory of ours alone; set DTM_INTEROP_CACHE\n"
	  if !@stat || !-d _ || $stat[4] != $> || ($stat[2] & 022);
	make_path("$top/$name");
	return "$top/$name";
}

# build/interop/NAME of the tree, made if need be.
sub build_dir
{
	my ($name) = @_;
	my $directory = abs_path(dirname(__FILE__) . '/../..') . "/build/interop/$name";

	make_path($directory);
	return $directory;
}

# Run a command; a test.  Options: dir, env => {}, timeout => 300 (s),
# missing => 'the registry of ...': when it fails, that is what could not be had.
# Returns its output, undef after a failure.
sub run_step
{
	my ($name, $command, %opts) = @_;
	my $deadline = time() + ($opts{timeout} // 300);
	my $program = start_program($name, $command, %opts, ready => undef);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $status = $program->finish($deadline - time());
	my $output = $program->output;
	return $output if defined $status && $status == 0 && ($opts{missing} || pass($name));

	diag(defined $status ? "$name: exit status $status" : "$name: still running, killed");
	diag(length $output > 4000 ? '... ' . substr($output, -4000) : $output);
	interop_missing("$opts{missing} could not be had: $name failed") if $opts{missing};
	fail($name);
	return;
}

# Start a program that goes on, with its output (both) in a file.  Options:
# dir, env => {}, ready => qr/.../ (wait for that in the output; a test),
# timeout => 60 (s, for ready).  The object:
#   ->output          what it has written so far
#   ->wait_output(qr/.../, name)   poll for that; a test; the capture, if there is one
#   ->match           what ready's group has caught
#   ->kill('KILL')    send a signal, and wait for its end
#   ->finish(s)       wait for its end: exit status (256 + signal), or undef and it is killed
#   ->alive
sub start_program
{
	my ($name, $command, %opts) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $program = DtmInterop::Program->start($name, $command, %opts);
	if (defined $opts{ready})
	{
		$program->{match} =
		  $program->wait_output($opts{ready}, "$name is ready", timeout => $opts{timeout});
	}
	return $program;
}

# -------------------------------------------------------------------------
package DtmInterop::Program;

use strict;
use warnings;
use POSIX ();
use Time::HiRes qw(time usleep);

my %running;
my $number = 0;

# A test that is told to stop ends what it has started: without a handler no
# END block would run.
$SIG{$_} //= sub { exit 143 } for qw(INT TERM HUP);

sub start
{
	my ($class, $name, $command, %opts) = @_;
	my $logs = DtmInterop::build_dir('log');
	(my $file = $name) =~ s/[^A-Za-z0-9]+/_/g;
	my $self = bless { name => $name, log => "$logs/$file." . $$ . '.' . ++$number }, $class;

	open my $out, '>', $self->{log} or die "$self->{log}: $!";
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		# a group of its own, so that what it starts ends with it
		POSIX::setpgid(0, 0);
		%running = ();
		$SIG{$_} = 'DEFAULT' for qw(INT TERM HUP);
		chdir $opts{dir} or POSIX::_exit(126) if $opts{dir};
		%ENV = (%ENV, %{ $opts{env} // {} });
		open STDIN, '<', '/dev/null';
		POSIX::dup2(fileno($out), 1);
		POSIX::dup2(fileno($out), 2);
		{ no warnings 'exec'; exec { $command->[0] } @$command; }
		POSIX::_exit(127);
	}
	POSIX::setpgid($pid, $pid);
	$self->{pid} = $pid;
	$running{$pid} = 1;
	return $self;
}

sub output
{
	my ($self) = @_;

	open my $in, '<', $self->{log} or return '';
	local $/;
	return <$in> // '';
}

sub match { return $_[0]->{match}; }

sub wait_output
{
	my ($self, $pattern, $name, %opts) = @_;
	my $match;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $found = DtmTest::wait_until(
		sub {
			return 1 if $self->output =~ $pattern && (($match = $1 // 1), 1);
			die "$self->{name} has ended:\n" . $self->output unless $self->alive;
			return 0;
		},
		$name // "$self->{name} says $pattern",
		defined $opts{timeout} ? (timeout => $opts{timeout}) : ());
	Test::More::diag($self->output) unless $found;
	return $match;
}

sub alive
{
	my ($self) = @_;

	return 0 unless $self->{pid};
	if (waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid})
	{
		$self->{status} = ($? & 127) ? 256 + ($? & 127) : $? >> 8;
		# what it left behind
		CORE::kill('KILL', -$self->{pid});
		delete $running{ delete $self->{pid} };
	}
	return defined $self->{pid};
}

sub kill
{
	my ($self, $signal) = @_;

	return unless $self->alive;
	CORE::kill($signal // 'KILL', -$self->{pid});
	return $self->finish(20);
}

sub finish
{
	my ($self, $seconds) = @_;
	my $deadline = time() + $seconds;

	while ($self->alive)
	{
		if (time() > $deadline)
		{
			CORE::kill('KILL', -$self->{pid});
			waitpid($self->{pid}, 0);
			delete $running{ delete $self->{pid} };
			return;
		}
		usleep(10_000);
	}
	return $self->{status};
}

END
{
	local ($?, $!);
	CORE::kill('KILL', map { -$_ } keys %running) if %running;
}

1;
