# -------------------------------------------------------------------------
#
# XaFixture.pm
#		What the tests of dtm_xa_exec share: a coordinating cluster that
#		prepares nothing itself, a cluster with the databases shop and bank
#		that it works on, and what must be true at the end of every test.
#
#	my $xa = XaFixture->new;                    $xa->node, $xa->remote
#	$xa->server('bank', proxy => $proxy);       SERVER and USER MAPPING
#	$xa->sql("BEGIN; SELECT dtm_xa_exec(...); COMMIT");
#	$xa->quiet('name');                         a test: nothing is left anywhere
#
# -------------------------------------------------------------------------
package XaFixture;

use strict;
use warnings;
use DtmTest;
use Test::More;

# The two clusters.  Options: conf => of the coordinating one.
sub new
{
	my ($class, %opts) = @_;
	my $self = bless {}, $class;

	$self->{remote} = new_node(name => 'remote', preload => 0, extension => 0,
		fsync => $opts{fsync} // 0,
		conf => join("\n", 'max_prepared_transactions = 40', $opts{remote_conf} // ''));
	$self->{node} = new_node(name => 'main', fsync => $opts{fsync} // 0, conf => join("\n",
		'max_prepared_transactions = 0', "dtm.retry_interval = '200ms'",
		"dtm.retry_max_interval = '500ms'", $opts{conf} // ''));
	$self->remote->safe_psql('postgres', "CREATE DATABASE $_") for qw(shop bank);
	$self->remote->safe_psql('shop', q{
		CREATE TABLE stock (product_id int PRIMARY KEY, quantity int CHECK (quantity >= 0), sold int DEFAULT 0);
		CREATE TABLE orders (order_no int PRIMARY KEY, status text);
		INSERT INTO stock VALUES (1, 100)});
	$self->remote->safe_psql('bank', q{
		CREATE TABLE accounts (user_id int PRIMARY KEY, balance int CHECK (balance >= 0));
		CREATE TABLE payments (order_no int PRIMARY KEY, amount int);
		INSERT INTO accounts VALUES (1, 1000)});
	$self->node->safe_psql('postgres', 'CREATE EXTENSION postgres_fdw; CREATE TABLE local (note text)');
	return $self;
}

sub node { return $_[0]->{node}; }
sub remote { return $_[0]->{remote}; }

# A server named as its database, with a mapping for the superuser.
# Options: proxy, name, dbname, remote (another cluster), fdw, options (SQL).
sub server
{
	my ($self, $dbname, %opts) = @_;
	my $remote = $opts{remote} // $self->remote;
	my ($host, $port) = $opts{proxy} ? ('127.0.0.1', $opts{proxy}->port) : ($remote->host, $remote->port);
	my $name = $opts{name} // $dbname;
	my $user = $self->node->safe_psql('postgres', 'SELECT current_user');

	$self->node->safe_psql('postgres', qq{
		CREATE SERVER "$name" FOREIGN DATA WRAPPER postgres_fdw
			OPTIONS (host '$host', port '$port', dbname '$dbname', connect_timeout '5');
		CREATE USER MAPPING FOR CURRENT_USER SERVER "$name" OPTIONS (user '$user')});
	return;
}

# Statements of one session; what it prints and what it complains about.
sub sql
{
	my ($self, $sql, %opts) = @_;
	my ($rc, $stdout, $stderr) = $self->node->psql('postgres', $sql,
		extra_params => [ '-v', 'VERBOSITY=verbose', ($opts{user} ? ('-U', $opts{user}) : ()) ],
		on_error_stop => $opts{on_error_stop} // 1);

	return wantarray ? ($stdout, $stderr) : $stdout;
}

sub shop { return $_[0]->remote->safe_psql('shop', $_[1]); }
sub bank { return $_[0]->remote->safe_psql('bank', $_[1]); }

sub prepared
{
	my ($self) = @_;

	return $self->remote->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts');
}

# A test: no transaction is unfinished, and nothing is prepared anywhere.
sub quiet
{
	my ($self, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $ok = wait_for($self->node, 'SELECT count(*) FROM dtm.live', '0', name => "$name: nothing unfinished");
	diag($self->node->safe_psql('postgres', 'SELECT reason FROM dtm.stuck')) unless $ok;
	for my $cluster ($self->node, $self->remote)
	{
		wait_for($cluster, 'SELECT count(*) FROM pg_prepared_xacts', '0',
			name => "$name: nothing prepared on " . $cluster->name);
	}
	return;
}

1;
