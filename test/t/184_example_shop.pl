# -------------------------------------------------------------------------
#
# 184_example_shop.pl
#		The example shop runs, and its own checks hold.  Its crash is left out:
#		other tests crash more often.
#
# -------------------------------------------------------------------------
use strict;
use warnings;
use DtmExample;
use Test::More;

run_example('shop', checks => 17);
done_testing();
