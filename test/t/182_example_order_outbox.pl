# -------------------------------------------------------------------------
#
# 182_example_order_outbox.pl
#		The example order-outbox runs, and its own checks hold.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmExample;
use Test::More;

run_example('order-outbox', checks => 20);
done_testing();
