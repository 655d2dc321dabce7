# -------------------------------------------------------------------------
#
# 280_http_docs.pl
#		The examples of docs/http-api.md and docs/move-from-dtm.md do what
#		stands below them.
#
# A block is ```console; "$ " begins a command, which goes on in lines that
# begin with a blank; the rest is its answer, in which "…" is anything.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmTest;
use DtmWire;
use File::Basename qw(dirname);
use Test::More;

my ($node, $wire) = wire_node(conf => "dtm.http_role = 'postgres'\ndtm.retry_interval = '200ms'");
my $service = start_service(node => $node);
my %ports = (36789 => $wire->port, 8081 => $service->port);

$service->script('/no', { then => { status => 409, body => 'card declined' } });

# Pairs of a command and what it prints.
sub examples
{
	my ($page) = @_;
	my (@examples, $in_block);

	open my $in, '<:encoding(UTF-8)', dirname(__FILE__) . "/../../docs/$page" or die "$page: $!";
	while (my $line = <$in>)
	{
		if ($line =~ /^```/)
		{
			$in_block = $line =~ /^```console$/;
		}
		elsif ($in_block)
		{
			if ($line =~ /^\$ (.*)/s) { push @examples, [ $1, '' ]; }
			elsif ($line =~ /^\s/) { $examples[-1][0] .= $line; }
			else { $examples[-1][1] .= $line; }
		}
	}
	close $in;
	return @examples;
}

sub pattern
{
	my ($expected) = @_;

	return join '.*', map { quotemeta } split /\x{2026}/, $expected, -1;
}

for my $page (qw(http-api.md move-from-dtm.md))
{
	my $variables = '';
	my @examples = examples($page);

	ok(@examples > 0, "$page has examples");
	for my $example (@examples)
	{
		my ($command, $expected) = @$example;

		$command =~ s/localhost:(36789|8081)/127.0.0.1:$ports{$1}/g;
		if ($command =~ /^[A-Z]+=\S+$/)
		{
			$variables .= $command;
			next;
		}
		open my $run, '-|', 'bash', '-c', "$variables$command" or die "bash: $!";
		binmode $run, ':encoding(UTF-8)';
		my $printed = do { local $/; <$run> } // '';
		close $run;
		chomp($printed, $expected);
		my $pattern = pattern($expected);
		like($printed, qr/^$pattern$/s, "$page: $command");
	}
}

done_testing();
