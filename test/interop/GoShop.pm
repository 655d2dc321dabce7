# -------------------------------------------------------------------------
#
# GoShop.pm
#		The shop of test/interop/go, which uses DTM's Go SDK: built, with its
#		databases, services and clients, beside a cluster that coordinates.
#
#	my $shop = GoShop->new('go');
#	my $result = $shop->client('saga', gid => 'g1', wait => 1);
#	$shop->is_state('98 2 0 | 900 0', 'one order');
#
# Stock and shipments are in database postgres, accounts and points in
# database bank, which has the barrier of dtm_barrier_plain.sql.
#
# -------------------------------------------------------------------------
package GoShop;

use strict;
use warnings;
use Cwd qw(abs_path);
use DtmInterop;
use DtmTest;
use File::Basename qw(dirname);
use JSON::PP;
use Test::More;

my $here = abs_path(dirname(__FILE__));
my @built;

# The program, built from what go.mod names.  Downloads and what the compiler
# made of them are kept for the next time.
sub build
{
	my $go = need_tool('go', '/usr/local/go/bin', '/usr/lib/go/bin');
	my $cache = cache_dir('go');
	my $program = build_dir('go') . "/shop.$$";
	my %opts = (dir => "$here/go", timeout => 600,
		env => { GOPATH => "$cache/path", GOMODCACHE => "$cache/mod", GOCACHE => "$cache/build",
			GOTOOLCHAIN => 'local', GOFLAGS => '-mod=readonly -buildvcs=false', CGO_ENABLED => 0 });

	run_step('download of the Go modules', [ $go, 'mod', 'download' ], %opts,
		missing => 'the Go modules of go.mod');
	run_step('build of the Go program', [ $go, 'build', '-o', $program, '.' ], %opts);
	die "there is nothing to test with\n" unless -x $program;
	push @built, $program;
	return $program;
}

# Options go to interop_node().
sub new
{
	my ($class, $name, %opts) = @_;
	my $self = bless { program => build() }, $class;
	my $node = $self->{node} = interop_node(name => $name, tcp => 1, %opts);
	my $grants = 'GRANT USAGE ON SCHEMA dtm TO shop; GRANT SELECT, INSERT ON dtm.barrier TO shop;'
	  . ' GRANT USAGE ON SEQUENCE dtm.barrier_seq TO shop;';

	$node->safe_psql('postgres', <<"SQL");
$grants
SET ROLE shop;
CREATE TABLE shop.stock (product_id int PRIMARY KEY, quantity int CHECK (quantity >= 0),
	locked int DEFAULT 0 CHECK (locked BETWEEN 0 AND quantity), sold int DEFAULT 0);
CREATE TABLE shop.shipments (gid text PRIMARY KEY);
CREATE TABLE shop.call_log (seq bigserial PRIMARY KEY, gid text, branch_id text, op text, path text, header text,
	at timestamptz DEFAULT clock_timestamp(), done_at timestamptz, meets boolean DEFAULT false, met boolean DEFAULT false);
INSERT INTO shop.stock VALUES (1, 100);
SQL
	$node->safe_psql('postgres', 'CREATE DATABASE bank');
	$node->command_ok([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('bank'),
		'-f', "$here/../../sql/dtm_barrier_plain.sql" ], 'the plain barrier in database bank');
	$node->safe_psql('bank', <<"SQL");
$grants
CREATE SCHEMA shop AUTHORIZATION shop;
SET ROLE shop;
CREATE TABLE shop.accounts (user_id int PRIMARY KEY, balance int CHECK (balance >= 0),
	held int DEFAULT 0 CHECK (held BETWEEN 0 AND balance));
CREATE TABLE shop.points_log (gid text PRIMARY KEY, user_id int, delta int);
INSERT INTO shop.accounts VALUES (1, 1000);
SQL
	return $self;
}

sub node { return $_[0]->{node}; }

sub arguments
{
	my ($self) = @_;

	return ('--dbport', $self->{node}->port, '--dtm', dtm_url($self->{node}),
		'--jrpc', dtm_url($self->{node}, '/api/json-rpc'));
}

# A process of services; arguments are further flags.  The first one takes the
# calls of all clients.
sub serve
{
	my ($self, $name, @flags) = @_;
	my $service = start_program($name,
		[ $self->{program}, 'serve', $self->arguments, @flags ], ready => qr/^port (\d+)$/m);

	$self->{rm} //= 'http://127.0.0.1:' . $service->match;
	return $service;
}

# The next one that serves takes the calls.
sub forget_services { delete $_[0]->{rm}; return; }

sub rm { return $_[0]->{rm}; }

# A client that goes on: start_program's object.  flags => [] are further flags
# of the program, all else is for the scenario.
sub start_client
{
	my ($self, $scenario, %parameters) = @_;
	my $flags = delete $parameters{flags} // [];

	return start_program($scenario, [ $self->{program}, 'run', $self->arguments, '--rm', $self->{rm},
		@$flags, $scenario, map { "$_=$parameters{$_}" } sort keys %parameters ]);
}

# A client until its end: what it has to say as a hash (error, failure, ongoing, took_ms, ...).
sub client
{
	my ($self, $scenario, %parameters) = @_;
	my $program = $self->start_client($scenario, %parameters);
	my $status = $program->finish(60);
	my ($line) = $program->output =~ /^result: (.*)$/m;

	diag("client $scenario: exit status " . ($status // 'none') . "\n" . $program->output)
	  unless defined $line;
	return defined $line ? decode_json($line) : { error => 'no result' };
}

# Stock and money as at the beginning.
sub fresh
{
	my ($self) = @_;

	$self->{node}->safe_psql('postgres', 'UPDATE shop.stock SET quantity = 100, locked = 0, sold = 0');
	$self->{node}->safe_psql('bank', 'UPDATE shop.accounts SET balance = 1000, held = 0');
	return;
}

# "quantity locked sold | balance held"
sub state
{
	my ($self) = @_;
	my $stock = $self->{node}->safe_psql('postgres',
		q{SELECT concat_ws(' ', quantity, locked, sold) FROM shop.stock});

	return "$stock | "
	  . $self->{node}->safe_psql('bank', q{SELECT concat_ws(' ', balance, held) FROM shop.accounts});
}

sub is_state
{
	my ($self, $expected, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return is($self->state, $expected, $name);
}

# What there is of a gid beside: "shipments points"
sub kept
{
	my ($self, $gid) = @_;
	my $shipments = $self->{node}->safe_psql('postgres', "SELECT count(*) FROM shop.shipments WHERE gid = '$gid'");

	return "$shipments "
	  . $self->{node}->safe_psql('bank', "SELECT count(*) FROM shop.points_log WHERE gid = '$gid'");
}

# Calls of a gid in order: "op branch_id path"
sub calls
{
	my ($self, $gid, %opts) = @_;
	my $where = $opts{where} ? " AND $opts{where}" : '';

	return rows($self->{node},
		"SELECT concat_ws(' ', op, branch_id, path) FROM shop.call_log WHERE gid = '$gid'$where ORDER BY seq");
}

# Its branches: "branch_id op status" in their order
sub branches
{
	my ($self, $gid) = @_;

	return rows($self->{node},
		"SELECT concat_ws(' ', branch_id, op, status) FROM dtm.branches WHERE gid = '$gid'");
}

# Barrier rows: "branch_id op barrier_id reason"
sub barriers
{
	my ($self, $gid, %opts) = @_;

	return rows($self->{node},
		"SELECT concat_ws(' ', branch_id, op, barrier_id, reason) FROM dtm.barrier WHERE gid = '$gid' ORDER BY id",
		dbname => $opts{dbname} // 'postgres');
}

sub status
{
	my ($self, $gid) = @_;

	return $self->{node}->safe_psql('postgres', "SELECT dtm_status('$gid')");
}

sub reason
{
	my ($self, $gid) = @_;

	return $self->{node}->safe_psql('postgres', "SELECT rollback_reason FROM dtm.transactions WHERE gid = '$gid'");
}

# At the end of a file: nothing is left over.
sub is_quiet
{
	my ($self) = @_;

	is($self->{node}->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0,
		'no prepared transaction is left');
	is($self->{node}->safe_psql('postgres',
		q{SELECT coalesce(string_agg(gid || ' ' || status, ', '), 'none') FROM dtm.transactions WHERE status NOT IN ('succeed', 'failed')}),
		'none', 'no global transaction is left');
	return;
}

END { unlink @built; }

1;
