# -------------------------------------------------------------------------
#
# DtmSession.pm
#		A psql session that stays open beside the test: for locks, open
#		transactions and statements that wait.
#
#	my $session = DtmSession->new($node, 'postgres');
#	$session->query('BEGIN; LOCK TABLE dtm.live');
#	...
#	$session->quit;
#
# Independent of PostgreSQL::Test's background_psql, which is another one in
# each major release.
#
# -------------------------------------------------------------------------
package DtmSession;

use strict;
use warnings;
use IPC::Run qw(start timer);

sub new
{
	my ($class, $node, $dbname) = @_;
	my $self = bless { in => '', out => '', err => '', serial => 0 }, $class;

	$self->{run} = start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=0', '-d', $node->connstr($dbname // 'postgres') ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, timer(120));
	return $self;
}

# Without waiting for the end of it.
sub send
{
	my ($self, $sql) = @_;

	$self->{in} .= "$sql;\n\\echo done-" . ++$self->{serial} . "\n";
	$self->{run}->pump_nb;
	return;
}

# What the last statement that was sent gave; dies when the session dies.
sub result
{
	my ($self) = @_;
	my $mark = "done-$self->{serial}\n";

	$self->{run}->pump until index($self->{out}, $mark) >= 0;
	my $result = substr($self->{out}, 0, index($self->{out}, $mark));
	$self->{out} = '';
	chomp $result;
	return $result;
}

sub query
{
	my ($self, $sql) = @_;

	$self->send($sql);
	return $self->result;
}

# What psql wrote to stderr so far.
sub errors { return $_[0]->{err}; }

# The client dies without a word.
sub kill
{
	my ($self) = @_;

	$self->{run}->signal('KILL');
	eval { $self->{run}->finish };
	delete $self->{run};
	return;
}

# Also when the server has gone already.
sub quit
{
	my ($self) = @_;

	$self->{in} .= "\\q\n";
	eval { $self->{run}->finish };
	delete $self->{run};
	return;
}

sub DESTROY
{
	my ($self) = @_;

	local ($?, $!, $@);
	$self->{run}->kill_kill if $self->{run};
	return;
}

1;
