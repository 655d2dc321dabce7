# -------------------------------------------------------------------------
#
# 183_example_supply_chain.pl
#		The example supply-chain runs, and its own checks hold.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmExample;
use Test::More;

run_example('supply-chain', checks => 26);
done_testing();
