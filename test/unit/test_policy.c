/* -------------------------------------------------------------------------
 *
 * test_policy.c
 *		dtm.allowed_targets: what a list lets through.
 *
 * -------------------------------------------------------------------------
 */
#include <arpa/inet.h>
#include <netinet/in.h>

#include "dtm_policy.h"
#include "dtm_test.h"

static TestArena memory;

/* address "" = ask about the target alone */
static bool
allows(const char *list, const char *url, const char *address)
{
	char error[200] = "";
	DtmPolicy *policy = dtm_policy_parse(list, &memory.arena, error, sizeof(error));
	DtmTarget target;
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	CHECK_STR(error, "");
	CHECK_STR(dtm_target_parse(url, strlen(url), &target), NULL);
	if (policy == NULL)
		return false;
	if (address[0] == '\0')
		return dtm_policy_allows_target(policy, &target);
	if (inet_pton(AF_INET, address, &in.sin_addr) == 1)
		return dtm_policy_allows_address(policy, &target, (struct sockaddr *) &in);
	CHECK_INT(inet_pton(AF_INET6, address, &in6.sin6_addr), 1);
	return dtm_policy_allows_address(policy, &target, (struct sockaddr *) &in6);
}

typedef struct Case
{
	const char *list;
	const char *url;
	const char *address;
	bool allowed;
} Case;

static void
check_cases(const Case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!CHECK_INT(allows(cases[i].list, cases[i].url, cases[i].address), cases[i].allowed))
			printf("    [%s] %s %s\n", cases[i].list, cases[i].url, cases[i].address);
}

#define CHECK_CASES(cases) check_cases(cases, sizeof(cases) / sizeof(cases[0]))

static void
test_names(void)
{
	static const Case cases[] =
		{{"", "http://a/", "", false},
		 {" , ", "http://a/", "", false},
		 {"", "sql:f", "", true},
		 {"", "", "", true},
		 {"*", "grpc://a/b", "", false},
		 {"*", "sql:f", "10.0.0.1", false},
		 {"*", "http://a/", "", true},
		 {"*", "http://a/", "10.0.0.1", true},
		 {"https://*", "http://a/", "", false},
		 {"https://*", "https://a/", "1.2.3.4", true},
		 {"*:8080", "http://a/", "", false},
		 {"*:8080", "http://a:8080/", "1.2.3.4", true},
		 {"a", "http://a/", "1.2.3.4", true},
		 {"a", "http://A./", "1.2.3.4", true},
		 {"A.", "https://a:9/", "1.2.3.4", true},
		 {"a", "http://b/", "", false},
		 {"a", "http://ab/", "", false},
		 {"a", "http://a.b/", "", false},
		 {"http://a", "https://a/", "", false},
		 {"HTTP://a", "http://a/", "", true},
		 {"payments.internal:8443", "https://payments.internal:8443/", "10.1.1.1", true},
		 {"payments.internal:8443", "http://payments.internal:8443/", "10.1.1.1", true},
		 {"payments.internal:8443", "https://payments.internal/", "", false},
		 {"a:443", "https://a/", "", true},
		 {"https://*.example.com", "https://x.example.com/", "1.2.3.4", true},
		 {"https://*.example.com", "https://x.y.EXAMPLE.com./", "1.2.3.4", true},
		 {"https://*.example.com", "https://example.com/", "", false},
		 {"https://*.example.com", "https://xexample.com/", "", false},
		 {"https://*.example.com", "https://x.example.com.evil/", "", false},
		 {"a b,c\td\n", "http://c/", "", true},
		 {"a b,c\td\n", "http://d/", "", true},

		 /* forbidding wins, wherever it stands */
		 {"* !a", "http://a/", "", false},
		 {"!a *", "http://a./", "", false},
		 {"!a *", "http://b/", "1.2.3.4", true},
		 {"* !http://*", "http://b/", "", false},
		 {"* !http://*", "https://b/", "", true},
		 {"* !*.corp", "http://x.corp/", "1.2.3.4", false},
		 {"* !*:22", "http://x:22/", "", false},
		 {"!a", "http://b/", "", false}};

	CHECK_CASES(cases);
}

static void
test_addresses(void)
{
	static const Case cases[] = {/* literal ones are judged at submit */
								 {"10.0.0.0/8", "http://10.1.2.3/", "", true},
								 {"10.0.0.0/8", "http://11.1.2.3/", "", false},
								 {"10.0.0.0/8", "http://10.1.2.3/", "10.1.2.3", true},
								 {"http://10.0.0.5:8080", "http://10.0.0.5:8080/", "10.0.0.5", true},
								 {"http://10.0.0.5:8080", "http://10.0.0.5/", "", false},
								 {"http://10.0.0.5:8080", "http://10.0.0.6:8080/", "", false},
								 {"fd00::/8", "http://[fd12::1]/", "fd12::1", true},
								 {"fd00::/8", "http://[fe12::1]/", "", false},
								 {"[::1]:8080", "http://[::1]:8080/", "::1", true},
								 {"[::1]:8080", "http://[::1]/", "", false},
								 {"::1", "http://[0:0::1]/", "::1", true},
								 {"[fd00::]/8", "http://[fd12::1]/", "", true},
								 {"10.0.0.128/25", "http://10.0.0.127/", "", false},
								 {"10.0.0.128/25", "http://10.0.0.129/", "", true},
								 {"0.0.0.0/0", "http://1.2.3.4/", "", true},
								 {"0.0.0.0/0", "http://[2001:db8::1]/", "", false},

								 /* a name may be meant by a network; only the address tells */
								 {"10.0.0.0/8", "http://a/", "", true},
								 {"10.0.0.0/8", "http://a/", "10.0.0.1", true},
								 {"10.0.0.0/8", "http://a/", "1.2.3.4", false},
								 {"http://10.0.0.0/8", "https://a/", "", false},
								 {"10.0.0.5:8080", "http://a/", "", false},
								 {"a", "http://a/", "10.0.0.1", true},
								 {"a", "http://10.0.0.1/", "", false},

								 /* forbidden networks count for names too */
								 {"* !10.0.0.0/8", "http://a/", "", true},
								 {"* !10.0.0.0/8", "http://a/", "10.0.0.1", false},
								 {"* !10.0.0.0/8", "http://a/", "11.0.0.1", true},
								 {"a !10.0.0.0/8", "http://a/", "10.0.0.1", false},
								 {"* !127.0.0.0/8 !::1", "http://localhost/", "::1", false},
								 {"* !127.0.0.0/8 !::1", "http://localhost/", "127.0.0.1", false},
								 {"* !10.0.0.5:22", "http://10.0.0.5:22/", "", false},
								 {"* !10.0.0.5:22", "http://10.0.0.5:23/", "", true},

								 /* IPv4 in IPv6 clothes */
								 {"* !10.0.0.0/8", "http://a/", "::ffff:10.0.0.1", false},
								 {"* !10.0.0.0/8", "http://a/", "64:ff9b::a00:1", false},
								 {"* !10.0.0.0/8", "http://a/", "2002:a00:1::1", false},
								 {"* !10.0.0.0/8", "http://a/", "::10.0.0.1", false},
								 {"* !10.0.0.0/8", "http://[::ffff:10.0.0.1]/", "", false},
								 {"* !::ffff:10.0.0.0/104", "http://a/", "10.0.0.1", false},
								 {"10.0.0.0/8", "http://a/", "::ffff:10.0.0.1", true},
								 {"* !0.0.0.0/8", "http://a/", "::1", true}};

	CHECK_CASES(cases);
}

static void
test_closed(void)
{
	static const char *const addresses[] = {"169.254.169.254",
											"169.254.0.1",
											"0.0.0.0",
											"0.1.2.3",
											"224.0.0.1",
											"239.255.255.255",
											"255.255.255.255",
											"100.100.100.200",
											"168.63.129.16",
											"192.0.0.192",
											"fe80::1",
											"febf::1",
											"fd00:ec2::254",
											"fd00:ec2::23",
											"fd20:ce::254",
											"ff02::1",
											"::",
											"::ffff:169.254.169.254",
											"64:ff9b::a9fe:a9fe",
											"2002:a9fe:a9fe::",
											"::169.254.169.254",
											"::ffff:0.0.0.0",
											"2002:e000:1::1",
											"64:ff9b::6464:64c8"};
	static const Case cases[] =
		{/* neighbours are open */
		 {"*", "http://a/", "169.253.255.255", true},
		 {"*", "http://a/", "169.255.0.0", true},
		 {"*", "http://a/", "100.100.100.201", true},
		 {"*", "http://a/", "fec0::1", true},
		 {"*", "http://a/", "fd00:ec3::254", true},
		 {"*", "http://a/", "::1", true},
		 {"*", "http://a/", "127.0.0.1", true},
		 {"*", "http://a/", "223.255.255.255", true},
		 {"*", "http://a/", "64:ff9b::808:808", true},

		 /* listed by address or by its network */
		 {"* 169.254.169.254", "http://a/", "169.254.169.254", true},
		 {"169.254.169.254", "http://169.254.169.254/", "", true},
		 {"http://169.254.169.254:80", "http://169.254.169.254/", "169.254.169.254", true},
		 {"* 169.254.169.254", "http://a/", "169.254.169.253", false},
		 {"169.254.0.0/16", "http://a/", "169.254.169.254", true},
		 {"* 100.100.100.0/24", "http://a/", "100.100.100.200", true},
		 {"* fe80::/10", "http://a/", "fe80::1", true},
		 {"* fd00:ec2::254", "http://a/", "fd00:ec2::254", true},
		 {"* 169.254.169.254", "http://a/", "::ffff:169.254.169.254", true},
		 {"224.0.0.0/4", "http://a/", "224.0.0.1", true},
		 {"* 169.254.169.254 !169.254.0.0/16", "http://a/", "169.254.169.254", false},
		 {"* http://169.254.169.254", "https://a/", "169.254.169.254", false},

		 /* not by a wide network or a name */
		 {"0.0.0.0/0 ::/0", "http://a/", "169.254.169.254", false},
		 {"0.0.0.0/0 ::/0", "http://a/", "fe80::1", false},
		 {"100.64.0.0/10", "http://a/", "100.100.100.200", false},
		 {"100.64.0.0/10", "http://a/", "100.100.100.100", true},
		 {"a", "http://a/", "169.254.169.254", false},
		 {"fd00::/8", "http://a/", "fd00:ec2::254", false},
		 {"64:ff9b::/96", "http://a/", "64:ff9b::a9fe:a9fe", false},

		 /* the name of Google's */
		 {"*", "http://metadata.google.internal/", "", false},
		 {"*", "http://Metadata.Google.Internal./x", "", false},
		 {"*", "http://metadata.google.internal/", "1.2.3.4", false},
		 {"*.google.internal", "http://metadata.google.internal/", "", false},
		 {"10.0.0.0/8", "http://metadata.google.internal/", "10.0.0.1", false},
		 {"metadata.google.internal", "http://metadata.google.internal/", "", true},
		 {"metadata.google.internal", "http://metadata.google.internal/", "169.254.169.254", false},
		 {"metadata.google.internal 169.254.169.254", "http://metadata.google.internal/",
		  "169.254.169.254", true}};

	for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++)
	{
		char url[80];

		check_cases(&(Case){"*", "http://a/", addresses[i], false}, 1);
		check_cases(&(Case){"a", "http://a/", addresses[i], false}, 1);
		snprintf(url, sizeof(url), strchr(addresses[i], ':') ? "http://[%s]/" : "http://%s/",
				 addresses[i]);
		check_cases(&(Case){"*", url, "", false}, 1);
	}
	CHECK_CASES(cases);
}

static void
test_errors(void)
{
	static const char *const cases[][2] =
		{{"a !", "\"!\" names no host"},
		 {"http://", "\"http://\" names no host"},
		 {"ftp://a", "\"ftp://a\" has a scheme other than http and https"},
		 {"http://a/b", "\"http://a/b\" is not a network"},
		 {"http://a/", "\"http://a/\" is not a network"},
		 {"10.0.0.0/33", "\"10.0.0.0/33\" has a network length beyond the address"},
		 {"10.0.0.0/", "\"10.0.0.0/\" has a malformed network length"},
		 {"10.0.0.0/8x", "\"10.0.0.0/8x\" has a malformed network length"},
		 {"10.0.0.0/0008", "\"10.0.0.0/0008\" has a malformed network length"},
		 {"10.0.0.1/8", "\"10.0.0.1/8\" has bits set behind the network length"},
		 {"fd00::1/8", "\"fd00::1/8\" has bits set behind the network length"},
		 {"10.0.0/8", "\"10.0.0/8\" is not a network"},
		 {"127.1", "\"127.1\" is neither a host name nor an address"},
		 {"2130706433", "\"2130706433\" is neither a host name nor an address"},
		 {"a:0", "\"a:0\" has a malformed port"},
		 {"a:", "\"a:\" has a malformed port"},
		 {"a:65536", "\"a:65536\" has a port beyond 65535"},
		 {"a:b", "\"a:b\" has a malformed port"},
		 {"*a", "\"*a\" is neither a host name nor an address"},
		 {"a.*", "\"a.*\" is neither a host name nor an address"},
		 {"*.", "\"*.\" is neither a host name nor an address"},
		 {"*.*.a", "\"*.*.a\" is neither a host name nor an address"},
		 {"u@a", "\"u@a\" is neither a host name nor an address"},
		 {"[::1", "\"[::1\" has no closing bracket"},
		 {"[a]", "\"[a]\" is not an IPv6 address in brackets"},
		 {"[]", "\"[]\" is not an IPv6 address in brackets"},
		 {"[1.2.3.4]", "\"[1.2.3.4]\" is not an IPv6 address in brackets"},
		 {"[::1]x", "\"[::1]x\" goes on behind the address"},
		 {"[::1]:", "\"[::1]:\" has a malformed port"},
		 {"[::1]/129", "\"[::1]/129\" has a network length beyond the address"},
		 {"[::g]:1", "\"[::g]:1\" is not an address"},
		 {"1:2:3", "\"1:2:3\" is not an address"},
		 {"fe80::1%eth0", "\"fe80::1%eth0\" is not an address"},
		 {"a\x01", "\"a?\" is neither a host name nor an address"}};
	char error[200];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		CHECK(dtm_policy_parse(cases[i][0], &memory.arena, error, sizeof(error)) == NULL);
		CHECK_STR(error, cases[i][1]);
	}
	memory.fail_after = 0;
	CHECK(dtm_policy_parse("a", &memory.arena, error, sizeof(error)) == NULL);
	CHECK_STR(error, "out of memory");
	memory.fail_after = -1;
}

static void
test_no_policy(void)
{
	DtmTarget target;
	struct sockaddr local = {.sa_family = AF_UNIX};
	char error[20];

	dtm_target_parse("http://a/", 9, &target);
	CHECK(!dtm_policy_allows_target(NULL, &target));
	CHECK(!dtm_policy_allows_address(dtm_policy_parse("*", &memory.arena, error, sizeof(error)),
									 &target, &local));
}

int
main(void)
{
	test_arena_init(&memory);
	test_names();
	test_addresses();
	test_closed();
	test_errors();
	test_no_policy();
	test_arena_reset(&memory);
	TEST_REPORT();
}
