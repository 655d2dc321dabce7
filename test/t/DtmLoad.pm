# -------------------------------------------------------------------------
#
# DtmLoad.pm
#		Sagas submitted by several sessions while a test breaks something,
#		and the check of what must be true of each of them afterwards.
#
#	my $load = DtmLoad->new($node, $service);
#	$load->start(4, 50);
#	... break something, as long as $load->acknowledged grows ...
#	$load->finish;
#	$load->check;
#
# Each saga has two calls with effects behind the barrier and a function; the
# service refuses the second call of each third saga.
#
# -------------------------------------------------------------------------
package DtmLoad;

use strict;
use warnings;
use DtmTest;
use IPC::Run qw(run);
use POSIX qw(_exit);
use Test::More;
use Time::HiRes qw(usleep);

sub new
{
	my ($class, $node, $service) = @_;
	my $self = bless { node => $node, service => $service, children => [], file => $node->basedir . '/acknowledged' },
	  $class;

	$node->safe_psql('postgres', q{
		CREATE TABLE load_notes (gid text, op text);
		CREATE FUNCTION load_note(payload jsonb) RETURNS void LANGUAGE sql AS $$
			INSERT INTO public.load_notes SELECT public.dtm_context()->>'gid', public.dtm_context()->>'op' $$});
	$service->script('/effect/refuse', { then => { status => 409, body => 'no stock', before => 1 } });
	return $self;
}

sub submit_all
{
	my ($self, $session, $each, $pause) = @_;
	my $connstr = $self->{node}->connstr('postgres');
	my %url = map { $_ => $self->{service}->url("/effect/$_") } qw(one undo_one two undo_two refuse);

	my $done = 0;

	# a server that is down for long must not use up the submits
	for (my $k = 1; $done < $each && $k <= 20 * $each; $k++)
	{
		my $gid = "load-$session-$k";
		my $second = $k % 3 == 0 ? $url{refuse} : $url{two};
		my $answer = '';

		run([ 'psql', '-XAtq', '-d', $connstr, '-c', 'SELECT dtm_saga_submit(jsonb_build_array('
				  . "dtm_step('$url{one}', '$url{undo_one}'), dtm_step('$second', '$url{undo_two}'),"
				  . "dtm_step('sql:load_note', 'sql:load_note')), gid => '$gid')" ],
			'>', \$answer, '2>', '/dev/null');

		usleep($pause);

		# one that got no answer may be there or not
		if ($answer eq "$gid\n")
		{
			open my $file, '>>', $self->{file} or _exit(1);
			syswrite $file, $answer;
			close $file;
			$done++;
		}
		else
		{
			usleep(200_000);
		}
	}
	return;
}

# Each session waits for pause microseconds after each submit.
sub start
{
	my ($self, $sessions, $each, $pause) = @_;

	for my $session (1 .. $sessions)
	{
		my $child = fork // die "fork: $!";

		if ($child == 0)
		{
			$self->submit_all($session, $each, $pause // 0);
			_exit(0);
		}
		push @{ $self->{children} }, $child;
	}
	return;
}

# Gids of the submits that returned: their transactions are committed.
sub acknowledged
{
	my ($self) = @_;

	open my $file, '<', $self->{file} or return ();
	chomp(my @gids = <$file>);
	return @gids;
}

# All have been submitted.
sub finish
{
	my ($self) = @_;

	waitpid $_, 0 for splice @{ $self->{children} };
	return;
}

# All finish, none is lost, and each has what its end demands, exactly once.
sub check
{
	my ($self) = @_;
	my $node = $self->{node};

	wait_for($node, 'SELECT count(*) FROM dtm.live', '0', name => 'all of them finish');
	my %known = map { $_ => 1 }
	  split /\n/, $node->safe_psql('postgres', q{SELECT gid FROM dtm.transactions WHERE gid LIKE 'load-%'});
	is_deeply([ grep { !$known{$_} } $self->acknowledged ], [], 'every submit that returned is there');
	is($node->safe_psql('postgres', q{
		SELECT t.gid, t.status, e.done, n.done
		FROM dtm.transactions AS t
			LEFT JOIN LATERAL (SELECT string_agg(op || ' ' || branch_id, ',' ORDER BY op, branch_id) AS done
				FROM effects WHERE gid = t.gid) AS e ON true
			LEFT JOIN LATERAL (SELECT string_agg(op, ',') AS done FROM load_notes WHERE gid = t.gid) AS n ON true
		WHERE t.gid LIKE 'load-%'
			AND CASE WHEN split_part(t.gid, '-', 3)::int % 3 = 0
				THEN (t.status, e.done, n.done) IS DISTINCT FROM ('failed', 'action 01,compensate 01', NULL)
				ELSE (t.status, e.done, n.done) IS DISTINCT FROM ('succeed', 'action 01,action 02', 'action') END}),
		'', 'each succeeded with all its effects, or failed with none left, each once');
	is($node->safe_psql('postgres', q{
		SELECT count(*) FROM (SELECT gid FROM effects UNION SELECT gid FROM load_notes) AS e
		WHERE gid LIKE 'load-%' AND NOT EXISTS (SELECT FROM dtm.transactions AS t WHERE t.gid = e.gid)}),
		'0', 'no effect without a committed submit');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM dtm.stuck'), '0', 'nothing is stuck');
	return;
}

1;
