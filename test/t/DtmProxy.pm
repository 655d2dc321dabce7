# -------------------------------------------------------------------------
#
# DtmProxy.pm
#		A TCP proxy in front of a cluster's socket that can stop a message at
#		a known place, for tests of what a crash does just there.
#
#	my $proxy = DtmProxy->new($node);
#	... CREATE SERVER ... OPTIONS (host '127.0.0.1', port '<$proxy->port>')
#	$proxy->rule('COMMIT PREPARED', 'hold');
#	... $proxy->wait_hits(1);
#	$proxy->clear;
#
# What the client sends is compared with the rule:
#
#	hold	the message waits in the proxy until the rule is cleared
#	mute	it goes to the server, the answer waits
#	cut		it does not go on, both sides lose the connection
#	lose	it goes to the server, and instead of the answer both sides lose
#			the connection
#
# -------------------------------------------------------------------------
package DtmProxy;

use strict;
use warnings;
use DtmTest;
use IO::Select;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX qw(_exit);
use Test::More;

my %running;

sub new
{
	my ($class, $node) = @_;
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 50,
		ReuseAddr => 1) or die "proxy: $!";
	my $self = bless {
		port => $listener->sockport,
		rule => $node->basedir . '/proxy_rule',
		hits => $node->basedir . '/proxy_hits' }, $class;

	$self->{socket} = $node->host . '/.s.PGSQL.' . $node->port;
	my $pid = fork() // die "fork: $!";
	if ($pid == 0)
	{
		$SIG{PIPE} = 'IGNORE';
		eval { $self->serve($listener); };
		_exit(1);
	}
	$self->{pid} = $pid;
	$running{$pid} = 1;
	return $self;
}

sub port { return $_[0]->{port}; }

# One rule at a time; the hits are counted from now on.
sub rule
{
	my ($self, $regex, $action) = @_;

	unlink $self->{hits};
	open my $file, '>', "$self->{rule}.new" or die "proxy: $!";
	print $file "$action $regex";
	close $file;
	rename "$self->{rule}.new", $self->{rule} or die "proxy: $!";
	return;
}

sub clear
{
	my ($self) = @_;

	unlink $self->{rule};
	return;
}

sub hits { return -s $_[0]->{hits} // 0; }

# Poll until the rule has met that many messages; a test.
sub wait_hits
{
	my ($self, $count, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return wait_until(sub { return $self->hits >= $count }, $name // "$count messages at the proxy");
}

# ---- the process ----

sub action_for
{
	my ($self, $data) = @_;

	open my $file, '<', $self->{rule} or return '';
	my $line = <$file> // '';
	close $file;
	my ($action, $regex) = $line =~ /^(\w+) (.*)$/ or return '';
	return '' unless $data =~ /$regex/;
	open my $hits, '>>', $self->{hits} or return '';
	print $hits 'x';
	close $hits;
	return $action;
}

sub serve
{
	my ($self, $listener) = @_;
	my $select = IO::Select->new($listener);
	my %pair;    # of a socket: the other one, which side it is, what waits

	my $drop = sub {
		my ($socket) = @_;
		my $other = $pair{$socket}{other};
		for my $end ($socket, $other)
		{
			$select->remove($end);
			delete $pair{$end};
			close $end;
		}
	};

	while (1)
	{
		my $held = grep { $_->{waits} } values %pair;
		my @ready = $select->can_read($held ? 0.02 : 0.5);

		# the rule is gone: what waits goes on
		if ($held && !-e $self->{rule})
		{
			for my $end (values %pair)
			{
				next unless $end->{waits};
				syswrite $end->{other}, $end->{queue} if length $end->{queue};
				@$end{qw(waits queue)} = (0, '');
			}
		}
		for my $socket (@ready)
		{
			if ($socket == $listener)
			{
				my $client = $listener->accept or next;
				my $server = IO::Socket::UNIX->new(Peer => $self->{socket});
				if (!$server)
				{
					close $client;
					next;
				}
				$pair{$client} = { other => $server, client => 1, waits => 0, queue => '', lose => 0 };
				$pair{$server} = { other => $client, client => 0, waits => 0, queue => '', lose => 0 };
				$select->add($client, $server);
				next;
			}
			my $end = $pair{$socket} or next;
			my $n = sysread $socket, my $data, 65536;
			if (!$n)
			{
				$drop->($socket);
				next;
			}
			my $action = $end->{client} ? $self->action_for($data) : '';
			if ($action eq 'cut' || $end->{lose})
			{
				$drop->($socket);
				next;
			}
			$pair{ $end->{other} }{lose} = 1 if $action eq 'lose';
			$pair{ $end->{other} }{waits} = 1 if $action eq 'mute';
			$end->{waits} = 1 if $action eq 'hold';
			if ($end->{waits})
			{
				$end->{queue} .= $data;
				next;
			}
			syswrite $end->{other}, $data;
		}
	}
	return;
}

sub stop
{
	my ($self) = @_;

	return unless $self->{pid};
	kill 'KILL', $self->{pid};
	{
		local ($?, $!);
		waitpid $self->{pid}, 0;
	}
	delete $running{ delete $self->{pid} };
	return;
}

END
{
	local ($?, $!);
	kill 'KILL', keys %running if %running;
}

1;
