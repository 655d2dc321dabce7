# dtm_pg: build, install, test.
#
# make, make install     the extension (PGXS; PG_CONFIG says for which server)
# make check             everything that scripts/check.sh does, on a server of its own
# make demo              the shop of examples/shop on a server of its own
# make unit fuzz         what needs no server
# make regress isolation tap interop sql
#                        what needs one: a throwaway cluster, or the running one
#                        when PGHOST is set (with the extension installed)
# make style layers compat symbols filesize
#                        rules about the sources, held by scripts
# make bench             the benchmark
#
# The objects of src/core and src/net are compiled by a rule of their own that
# does not know where PostgreSQL's headers are: the compiler holds the line.

EXTENSION = dtm_pg
EXTVERSION = $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" dtm_pg.control)
MODULE_big = dtm_pg

CORE_SRCS = $(sort $(wildcard src/core/*.c))
NET_SRCS = $(sort $(wildcard src/net/*.c))
SERVER_SRCS = $(sort $(wildcard src/*.c src/store/*.c src/worker/*.c src/sql/*.c src/serve/*.c))
LOWER_OBJS = $(CORE_SRCS:.c=.o) $(NET_SRCS:.c=.o)
SERVER_OBJS = $(SERVER_SRCS:.c=.o)
OBJS = $(LOWER_OBJS) $(SERVER_OBJS)

INSTALL_SQL = sql/$(EXTENSION)--$(EXTVERSION).sql
SQL_FRAGMENTS = $(sort $(wildcard sql/[0-9][0-9]-*.sql))
DATA_built = $(INSTALL_SQL)
# upgrade scripts, and the barrier for databases where no C extension can be installed
DATA = $(wildcard sql/$(EXTENSION)--*--*.sql sql/dtm_barrier_plain.sql)

BUILD = build
EXTRA_CLEAN = $(BUILD) $(addsuffix /*.d,src src/core src/net src/store src/worker src/sql src/serve)

# Nobody inlines these functions into queries, and so clang is not needed to build.
override with_llvm = no

LIBS_CFLAGS := $(shell pkg-config --cflags libcurl jansson libmicrohttpd)
SHLIB_LINK = $(shell pkg-config --libs libcurl jansson libmicrohttpd)
# the libpq that belongs to the server; $(libpq) is PGXS's
SHLIB_LINK_INTERNAL = $(libpq)

DTM_INCLUDES = -Isrc -Isrc/core -Isrc/net -Isrc/store -Isrc/worker -Isrc/sql -Isrc/serve
# libpq-fe.h is not among the server's headers: those stay out of reach
LOWER_INCLUDES = -Isrc/core -Isrc/net $(LIBS_CFLAGS) -I$(libpq_srcdir)
STRICT = -std=gnu11 -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wvla -Wpointer-arith

# Above the line: PostgreSQL's headers and its calling convention (every
# function takes fcinfo, used or not) do not pass -Wextra as a whole.
PG_CPPFLAGS = $(DTM_INCLUDES) $(LIBS_CFLAGS) -I$(libpq_srcdir)
PG_CFLAGS = $(STRICT) -Wno-declaration-after-statement -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-cast-function-type -MMD -MP

# What only calls a script works without a server's headers, and PGXS has a
# target "check" of its own.
SCRIPT_GOALS = check demo bench style layers compat filesize
.PHONY: $(SCRIPT_GOALS)

ifneq (,$(filter $(SCRIPT_GOALS),$(MAKECMDGOALS)))
check:
	@scripts/check.sh
demo:
	@scripts/demo.sh
bench:
	@bench/run.sh
style layers compat filesize:
	@scripts/check_$@.sh
else

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# Below the line.  -fPIC because it ends up in a shared object.
LOWER_CFLAGS = $(STRICT) -O2 -g -fno-strict-aliasing -fno-omit-frame-pointer \
	-fstack-protector-strong -fPIC -fvisibility=hidden -D_GNU_SOURCE -MMD -MP

$(LOWER_OBJS): %.o: %.c
	$(CC) $(LOWER_CFLAGS) $(LOWER_INCLUDES) $(COPT) -c -o $@ $<

# From 16 on PGXS hides symbols by itself and exports what PG_FUNCTION_INFO_V1
# and PGDLLEXPORT name.  For 14 and 15 the same is done here, except that
# src/sql keeps its functions visible: their prototypes say nothing about it.
ifneq (,$(filter 14 15,$(MAJORVERSION)))
$(filter-out src/sql/%,$(SERVER_OBJS)): override CFLAGS += -fvisibility=hidden
$(SERVER_OBJS): override CPPFLAGS += '-DPGDLLEXPORT=__attribute__((visibility("default")))'
endif

-include $(OBJS:.o=.d)

$(INSTALL_SQL): $(SQL_FRAGMENTS) dtm_pg.control
	cat $(SQL_FRAGMENTS) >$@.tmp && mv $@.tmp $@

# ---------------------------------------------------------------- unit tests
#
# Each test/unit/test_*.c becomes one program with all of src/core and src/net,
# under AddressSanitizer and UBSan.  test_histories.c is built a second time
# without them, for a million histories.

UNIT_TESTS = $(patsubst test/unit/%.c,%,$(sort $(wildcard test/unit/test_*.c)))
UNIT_HELPERS = $(sort $(filter-out test/unit/test_%,$(wildcard test/unit/*.c)))
UNIT_BINS = $(addprefix $(BUILD)/unit/,$(UNIT_TESTS)) \
	$(patsubst %,$(BUILD)/unit/fast_%,$(filter test_histories,$(UNIT_TESTS)))
HISTORIES ?= 1000000
HISTORIES_SANITIZED ?= 50000

TEST_CFLAGS = $(STRICT) -g -fno-omit-frame-pointer -D_GNU_SOURCE -MMD -MP $(LOWER_INCLUDES) -Itest/unit
SANITIZE = -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
TEST_LIBS = $(SHLIB_LINK) $(libpq) -lm -lpthread

SAN_LIB_OBJS = $(patsubst %.c,$(BUILD)/san/%.o,$(CORE_SRCS) $(NET_SRCS) $(UNIT_HELPERS))
FAST_LIB_OBJS = $(patsubst %.c,$(BUILD)/fast/%.o,$(CORE_SRCS) $(UNIT_HELPERS))

$(BUILD)/san/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) $(SANITIZE) -c -o $@ $<

$(BUILD)/fast/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(TEST_CFLAGS) -O2 -c -o $@ $<

$(BUILD)/unit/fast_%: $(BUILD)/fast/test/unit/%.o $(FAST_LIB_OBJS)
	@mkdir -p $(@D)
	$(CC) -o $@ $^ -lm

$(BUILD)/unit/test_%: $(BUILD)/san/test/unit/test_%.o $(SAN_LIB_OBJS)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) -o $@ $^ $(TEST_LIBS)

.PHONY: unit unit-build
.SECONDARY:
unit-build: $(UNIT_BINS) $(BUILD)/san/httpd_server

unit: unit-build
	@HISTORIES=$(HISTORIES) HISTORIES_SANITIZED=$(HISTORIES_SANITIZED) \
		scripts/run_unit.sh $(BUILD)/unit $(UNIT_BINS)

# The HTTP API without a database, for test/t/241_http_asan.pl.
$(BUILD)/san/httpd_server: $(BUILD)/san/test/hardening/httpd_server.o $(SAN_LIB_OBJS)
	@mkdir -p $(@D)
	$(CC) $(SANITIZE) -o $@ $^ $(TEST_LIBS)

# ---------------------------------------------------------------------- fuzz

FUZZ_SECONDS ?= 10
CLANG_FUZZ ?= clang
FUZZ_TARGETS = $(patsubst test/fuzz/%.c,%,$(sort $(wildcard test/fuzz/fuzz_*.c)))
FUZZ_BINS = $(addprefix $(BUILD)/fuzz/,$(FUZZ_TARGETS))
FUZZ_LIB_OBJS = $(patsubst %.c,$(BUILD)/fuzz/%.o,$(CORE_SRCS) $(NET_SRCS))

$(BUILD)/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(CLANG_FUZZ) $(TEST_CFLAGS) -O1 -fsanitize=fuzzer-no-link,address,undefined \
		-fno-sanitize-recover=all -c -o $@ $<

$(BUILD)/fuzz/fuzz_%: $(BUILD)/fuzz/test/fuzz/fuzz_%.o $(FUZZ_LIB_OBJS)
	$(CLANG_FUZZ) -fsanitize=fuzzer,address,undefined -o $@ $^ $(TEST_LIBS)

.PHONY: fuzz fuzz-build
fuzz-build: $(FUZZ_BINS)

fuzz: fuzz-build
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/run_fuzz.sh $(BUILD)/fuzz $(FUZZ_BINS)

-include $(wildcard $(BUILD)/*/src/*/*.d $(BUILD)/*/test/*/*.d)

# ------------------------------------------------------- tests with a server
#
# REGRESS=..., ISOLATION=... and PROVE_TESTS=... choose single tests.

REGRESS = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
ISOLATION = $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
PROVE_TESTS ?= $(sort $(wildcard test/t/*.pl))
TAP_JOBS ?= 2

# Without PGHOST: once more inside a throwaway cluster with this tree installed.
IN_CLUSTER = $(if $(PGHOST),,scripts/with_cluster.sh)

.PHONY: regress isolation tap interop sql
regress:
ifeq (,$(IN_CLUSTER))
	@scripts/run_regress.sh '$(BUILD)/regress' '$(top_builddir)/src/test/regress/pg_regress' '$(bindir)' '$(EXTENSION)' $(REGRESS)
else
	@$(IN_CLUSTER) $(MAKE) regress REGRESS='$(REGRESS)'
endif

isolation:
ifeq (,$(IN_CLUSTER))
	@scripts/run_regress.sh '$(BUILD)/isolation' '$(top_builddir)/src/test/isolation/pg_isolation_regress' '$(bindir)' '$(EXTENSION)' $(ISOLATION)
else
	@$(IN_CLUSTER) $(MAKE) isolation ISOLATION='$(ISOLATION)'
endif

# The TAP tests make clusters of their own; what they need is an installed extension.
tap:
ifeq (,$(IN_CLUSTER))
	@TESTDIR='$(CURDIR)/$(BUILD)/tap' PG_REGRESS='$(top_builddir)/src/test/regress/pg_regress' \
		PATH='$(bindir)':"$$PATH" perl -I '$(top_srcdir)/src/test/perl' -I test/t -I test/interop \
		scripts/run_tap.pl $(TAP_JOBS) $(PROVE_TESTS)
else
	@$(IN_CLUSTER) $(MAKE) tap PROVE_TESTS='$(PROVE_TESTS)' TAP_JOBS=$(TAP_JOBS)
endif

# The same with the SDKs of DTM, which are fetched from their registries.
interop:
	@$(MAKE) tap PROVE_TESTS='$(sort $(wildcard test/interop/*.pl))' TAP_JOBS=$(TAP_JOBS)

sql:
ifeq (,$(IN_CLUSTER))
	@scripts/check_sql.sh
else
	@$(IN_CLUSTER) $(MAKE) sql
endif

# ---------------------------------------------------------------------- rules

.PHONY: symbols
symbols: all
	@scripts/check_symbols.sh $(MODULE_big)$(DLSUFFIX)

endif
