/* -------------------------------------------------------------------------
 *
 * test_url.c
 *		Targets, the URL of a call, the query a service received.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_test.h"
#include "dtm_url.h"

static const char *
parse(const char *url, DtmTarget *target)
{
	return dtm_target_parse(url, strlen(url), target);
}

static void
test_targets(void)
{
	static const struct
	{
		const char *url;
		DtmScheme scheme;
		const char *host;
		int port;
		const char *rest;
	} cases[] = {{"", DTM_SCHEME_EMPTY, "", 0, ""},
				 {"http://a", DTM_SCHEME_HTTP, "a", 80, "a"},
				 {"http://localhost:8081/stock/deduct", DTM_SCHEME_HTTP, "localhost", 8081,
				  "localhost:8081/stock/deduct"},
				 {"HTTPS://Shop.Example.COM/x?y#z", DTM_SCHEME_HTTPS, "Shop.Example.COM", 443,
				  "Shop.Example.COM/x?y#z"},
				 {"http://a?x=@:/", DTM_SCHEME_HTTP, "a", 80, "a?x=@:/"},
				 {"http://a#@b", DTM_SCHEME_HTTP, "a", 80, "a#@b"},
				 {"http://a_b.c-d.", DTM_SCHEME_HTTP, "a_b.c-d.", 80, "a_b.c-d."},
				 {"http://10.0.0.5:65535", DTM_SCHEME_HTTP, "10.0.0.5", 65535, "10.0.0.5:65535"},
				 {"http://[::1]:8080/p", DTM_SCHEME_HTTP, "::1", 8080, "[::1]:8080/p"},
				 {"https://[2001:DB8::10.0.0.1]", DTM_SCHEME_HTTPS, "2001:DB8::10.0.0.1", 443,
				  "[2001:DB8::10.0.0.1]"},
				 {"http://1.example", DTM_SCHEME_HTTP, "1.example", 80, "1.example"},
				 {"http://0xcafe.example", DTM_SCHEME_HTTP, "0xcafe.example", 80, "0xcafe.example"},
				 {"http://0xfood", DTM_SCHEME_HTTP, "0xfood", 80, "0xfood"},
				 {"http://a/b\xc3\xbc", DTM_SCHEME_HTTP, "a", 80, "a/b\xc3\xbc"},
				 {"sql:f", DTM_SCHEME_SQL, "", 0, "f"},
				 {"SQL:shop.confirm_order", DTM_SCHEME_SQL, "", 0, "shop.confirm_order"},
				 {"sql:\"My Schema\".\"odd \"\" name.\"", DTM_SCHEME_SQL, "", 0,
				  "\"My Schema\".\"odd \"\" name.\""},
				 {"sql:f$1_\xc3\xbc", DTM_SCHEME_SQL, "", 0, "f$1_\xc3\xbc"},
				 {"grpc://h:1/p.S/M", DTM_SCHEME_GRPC, "", 0, "h:1/p.S/M"},
				 {"grpcs://h:1/p.S/M", DTM_SCHEME_GRPCS, "", 0, "h:1/p.S/M"},
				 {"pg://server/f", DTM_SCHEME_PG, "server", 0, "f"},
				 {"PG://Server_2/s.f", DTM_SCHEME_PG, "Server_2", 0, "s.f"},
				 {"pg://\"My /\"\" Server\"/\"a b\".\"c/d\"", DTM_SCHEME_PG, "\"My /\"\" Server\"",
				  0, "\"a b\".\"c/d\""},
				 {"xa://server", DTM_SCHEME_XA, "server", 0, "server"},
				 {"discovery:///service/path", DTM_SCHEME_DISCOVERY, "", 0, "/service/path"},
				 {"topic://order.paid", DTM_SCHEME_TOPIC, "", 0, "order.paid"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DtmTarget target;

		if (!CHECK_STR(parse(cases[i].url, &target), NULL))
			printf("    %s\n", cases[i].url);
		CHECK_INT(target.scheme, cases[i].scheme);
		CHECK_TEXT(target.host, cases[i].host);
		CHECK_INT(target.port, cases[i].port);
		CHECK_TEXT(target.rest, cases[i].rest);
	}
}

static void
test_identifiers(void)
{
	static const struct
	{
		const char *name;
		size_t taken;
		const char *result;
	} cases[] = {{"abc", 3, "abc"},
				 {"ABC.def", 3, "abc"},
				 {"\"ABC\".def", 5, "ABC"},
				 {"\"a\"\"b/ .\"", 9, "a\"b/ ."},
				 {"\"\"\"\"", 4, "\""},
				 {"\xc3\x9c", 2, "\xc3\x9c"},
				 {"\"\"", 0, ""},
				 {"\"a", 0, ""},
				 {"1a", 0, ""},
				 {"", 0, ""}};
	char buffer[16];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		DtmText name = {cases[i].name, (uint32_t) strlen(cases[i].name)};

		buffer[0] = '\0';
		CHECK_INT(dtm_identifier_read(name, buffer, name.len + 1), cases[i].taken);
		CHECK_STR(buffer, cases[i].result);
	}

	/* no room: nothing taken, and nothing written behind the end */
	buffer[3] = '#';
	CHECK_INT(dtm_identifier_read((DtmText){"abc", 3}, buffer, 3), 0);
	CHECK_INT(dtm_identifier_read((DtmText){"abc", 3}, buffer, 0), 0);
	CHECK_INT(buffer[3], '#');
	CHECK_INT(dtm_identifier_read((DtmText){"abc", 3}, buffer, 4), 3);
}

static void
test_bad_targets(void)
{
	static const char *const cases[][2] =
		{{"http:///x", "has no host"},
		 {"http://", "has no host"},
		 {"http://:80/", "has no host"},
		 {"http://?a", "has no host"},
		 {"http://[]/", "has no host"},
		 {"/stock/deduct", "has no scheme"},
		 {"localhost/stock", "has no scheme"},
		 {"//host/x", "has no scheme"},
		 {"sql", "has no scheme"},
		 {" http://a", "has no scheme"},
		 {"localhost:8080/x", "has an unknown scheme"},
		 {"ftp://x", "has an unknown scheme"},
		 {"http:/a", "has an unknown scheme"},
		 {"file:///etc/passwd", "has an unknown scheme"},
		 {"http://user@a/", "contains a user name or password"},
		 {"http://a:b@c/", "contains a user name or password"},
		 {"pg://", "names no server"},
		 {"pg:///f", "names no server"},
		 {"pg://server", "names no function"},
		 {"pg://server/", "names no function"},
		 {"pg://my-server/f", "has a malformed server name"},
		 {"pg://user@server/f", "has a malformed server name"},
		 {"pg://server:5432/f", "has a malformed server name"},
		 {"pg://\"server/f", "has a malformed server name"},
		 {"pg://\"\"/f", "has a malformed server name"},
		 {"pg://server/f()", "has a malformed function name"},
		 {"pg://server/a/f", "has a malformed function name"},
		 {"pg://server/a.b.c", "has a function name of more than two parts"},
		 {"pg://server /f", "has a malformed server name"},
		 {"xa://", "names no server"},
		 {"xa://server/f", "has a malformed server name"},
		 {"http://a b/", "contains a space"},
		 {"http://a/b c", "contains a space"},
		 {"http://a/\r\nX: y", "contains a control character"},
		 {"http://a/\x7f", "contains a control character"},
		 {"sql:\"a\nb\"", "contains a control character"},
		 {"http://a:0/", "has a port of 0"},
		 {"http://a:65536/", "has a port beyond 65535"},
		 {"http://a:99999999999999999999/", "has a port beyond 65535"},
		 {"http://a:/", "has an empty port"},
		 {"http://a:8x/", "has a malformed port"},
		 {"http://a:-1/", "has a malformed port"},
		 {"http://a:80:80/", "has a malformed port"},
		 {"http://::1/", "has no host"},
		 {"http://a..b/", "has a malformed host"},
		 {"http://.a/", "has a malformed host"},
		 {"http://./", "has a malformed host"},
		 {"http://a%2eb/", "has a malformed host"},
		 {"http://a\\@b/", "contains a user name or password"},
		 {"http://a\\b/", "has a malformed host"},
		 {"http://b\xc3\xbc"
		  "cher/",
		  "has a malformed host"},
		 {"http://*/", "has a malformed host"},
		 {"http://[::1/", "has an IPv6 address without a closing bracket"},
		 {"http://[::1]x/", "has a malformed host"},
		 {"http://[fe80::1%25eth0]/", "has a malformed IPv6 address"},
		 {"http://[1.2.3.4]/", "has a malformed IPv6 address"},
		 {"http://[::g]/", "has a malformed IPv6 address"},
		 {"http://[1:2:3:4:5:6:7:8:9]/", "has a malformed IPv6 address"},

		 /* addresses that only inet_aton would see */
		 {"http://2130706433/", "has a malformed IPv4 address"},
		 {"http://0x7f000001/", "has a malformed IPv4 address"},
		 {"http://0X7F.1/", "has a malformed IPv4 address"},
		 {"http://127.0.0.0x1/", "has a malformed IPv4 address"},
		 {"http://0x/", "has a malformed IPv4 address"},
		 {"http://127.1/", "has a malformed IPv4 address"},
		 {"http://0177.0.0.1/", "has a malformed IPv4 address"},
		 {"http://127.0.0.01/", "has a malformed IPv4 address"},
		 {"http://127.0.0.1./", "has a malformed IPv4 address"},
		 {"http://1.2.3.256/", "has a malformed IPv4 address"},
		 {"http://1.2.3.4.5/", "has a malformed IPv4 address"},
		 {"http://0/", "has a malformed IPv4 address"},
		 {"http://a.1/", "has a malformed IPv4 address"},

		 {"sql:", "names no function"},
		 {"sql://f", "has a malformed function name"},
		 {"sql:1f", "has a malformed function name"},
		 {"sql:f()", "has a malformed function name"},
		 {"sql:f;drop table x", "has a malformed function name"},
		 {"sql:a.", "has a malformed function name"},
		 {"sql:.a", "has a malformed function name"},
		 {"sql:\"\"", "has a malformed function name"},
		 {"sql:\"a", "has a malformed function name"},
		 {"sql:\"a\"b", "has a malformed function name"},
		 {"sql:a b", "has a malformed function name"},
		 {"sql:a.b.c", "has a function name of more than two parts"},
		 {"grpc://", "names nothing behind its scheme"},
		 {"topic://a b", "contains a space"}};
	static char big[DTM_MAX_URL_LEN + 2] = "http://a/";
	static char long_host[300] = "http://";
	DtmTarget target;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (!CHECK_STR(parse(cases[i][0], &target), cases[i][1]))
			printf("    %s\n", cases[i][0]);

	memset(big + 9, 'x', DTM_MAX_URL_LEN + 1 - 9);
	CHECK_STR(dtm_target_parse(big, DTM_MAX_URL_LEN, &target), NULL);
	CHECK_STR(dtm_target_parse(big, DTM_MAX_URL_LEN + 1, &target), "is longer than 2048 bytes");
	memset(long_host + 7, 'x', 254);
	CHECK_STR(dtm_target_parse(long_host, 7 + 253, &target), NULL);
	CHECK_STR(dtm_target_parse(long_host, 7 + 254, &target), "has a host longer than 253 bytes");
	CHECK_STR(dtm_target_parse("http://a\0b/", 11, &target), "contains a control character");
	CHECK_STR(parse("ftp://x", &target), "has an unknown scheme");
	CHECK_INT(target.scheme, DTM_SCHEME_UNKNOWN);
}

static void
test_url_for_call(void)
{
	static const char *const cases[][2] =
		{{"http://h/p", "http://h/p?branch_id=01&gid=g-1&op=action&trans_type=saga"},
		 {"http://h", "http://h?branch_id=01&gid=g-1&op=action&trans_type=saga"},
		 {"http://h/p?", "http://h/p?branch_id=01&gid=g-1&op=action&trans_type=saga"},
		 {"http://h/p?a=b", "http://h/p?a=b&branch_id=01&gid=g-1&op=action&trans_type=saga"},
		 {"http://h/p?a=b&", "http://h/p?a=b&branch_id=01&gid=g-1&op=action&trans_type=saga"},
		 {"http://h/p#f", "http://h/p?branch_id=01&gid=g-1&op=action&trans_type=saga"},
		 {"http://h/p?a#f?g", "http://h/p?a&branch_id=01&gid=g-1&op=action&trans_type=saga"},
		 {"http://h/p?a?", "http://h/p?a?&branch_id=01&gid=g-1&op=action&trans_type=saga"},
		 {"http://h#?", "http://h?branch_id=01&gid=g-1&op=action&trans_type=saga"}};
	char buffer[512];
	size_t need;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		size_t len = dtm_url_for_call(test_text(cases[i][0]), test_text("g-1"), "saga",
									  test_text("01"), "action", buffer, sizeof(buffer));

		CHECK_STR(buffer, cases[i][1]);
		CHECK_INT(len, strlen(cases[i][1]));
	}

	/* what is not unreserved is escaped */
	need = dtm_url_for_call(test_text("http://h/"), test_text("a&b=c d/\xc3\xbc+%~-._"), "tcc",
							test_text("01-02"), "try", buffer, sizeof(buffer));
	CHECK_STR(buffer,
			  "http://h/?branch_id=01-02&gid=a%26b%3Dc%20d%2F%C3%BC%2B%25~-._"
			  "&op=try&trans_type=tcc");

	/* 0 for every buffer that is too short, and not a byte beyond it */
	for (size_t size = 0; size <= need + 1; size++)
	{
		char *small = malloc(size + 1);
		size_t len;

		small[size] = '#';
		len = dtm_url_for_call(test_text("http://h/"), test_text("a&b=c d/\xc3\xbc+%~-._"), "tcc",
							   test_text("01-02"), "try", small, size);
		CHECK_INT(len, size > need ? need : 0);
		CHECK(small[size] == '#');
		free(small);
	}
}

static void
test_room(void)
{
	char gid[DTM_MAX_GID_LEN];
	char buffer[DTM_URL_FOR_CALL_ROOM(10)];
	DtmText text = {gid, sizeof(gid)};

	memset(gid, '/', sizeof(gid));
	CHECK(dtm_url_for_call(test_text("http://a/b"), text, "workflow", test_text("1000-1000"),
						   "compensate", buffer, sizeof(buffer)) > 0);
}

static void
check_request(const char *request, const char *expected)
{
	DtmRequest parsed;
	const char *field = "unset";
	char actual[512];
	const char *problem = dtm_request_parse(request, strlen(request), &parsed, &field);

	if (problem != NULL)
		snprintf(actual, sizeof(actual), "%s: %s", field, problem);
	else
		snprintf(actual, sizeof(actual), "%s %s %s %s", parsed.trans_type, parsed.gid,
				 parsed.branch_id, parsed.op);
	if (!CHECK_STR(actual, expected))
		printf("    %s\n", request);
}

static void
test_requests(void)
{
	static const char *const cases[][2] =
		{{"http://h/p?branch_id=01&gid=g&op=action&trans_type=saga", "saga g 01 action"},
		 {"/p?branch_id=01&gid=g&op=action&trans_type=saga", "saga g 01 action"},
		 {"p?branch_id=01&gid=g&op=action&trans_type=saga", "saga g 01 action"},
		 {"?branch_id=01&gid=g&op=action&trans_type=saga", "saga g 01 action"},
		 {"branch_id=01&gid=g&op=action&trans_type=saga", "saga g 01 action"},
		 {"&&branch_id=01&&gid=g&op=action&trans_type=saga&", "saga g 01 action"},
		 {"http://h/a=b?branch_id=01&gid=g&op=action&trans_type=saga", "saga g 01 action"},
		 {"/a=b?branch_id=01&gid=g&op=action&trans_type=saga", "saga g 01 action"},
		 {"gid=a?b&branch_id=01&op=action&trans_type=saga", "saga a?b 01 action"},
		 {"?u=http://x/y?z&gid=g&branch_id=01&op=action&trans_type=saga", "saga g 01 action"},
		 {"u=http://x/y&gid=g&branch_id=01&op=action&trans_type=saga", "saga g 01 action"},
		 {"/p?branch_id=01&gid=g&op=action&trans_type=saga#gid=h", "saga g 01 action"},
		 {"/p?gid=a%26b%3dc+d%2F%C3%BC%2b%25&branch_id=01&op=try&trans_type=tcc",
		  "tcc a&b=c d/\xc3\xbc+% 01 try"},
		 {"/p?g%69d=g&branch_id=01&op=try&trans_type=tcc", "tcc g 01 try"},
		 {"/p?gid=g&gid=h&branch_id=01&op=try&op=x&trans_type=tcc", "tcc g 01 try"},
		 {"/p?gid=g&branch_id=01&branch_type=cancel&trans_type=tcc", "tcc g 01 cancel"},
		 {"/p?gid=g&branch_id=01&branch_type=cancel&op=try&trans_type=tcc", "tcc g 01 try"},
		 {"/p?gid=g&branch_id=01&op=&branch_type=cancel&trans_type=tcc", "tcc g 01 cancel"},
		 {"/p?xgid=1&gidx=2&GID=3&gid=g&branch_id=01&op=try&trans_type=tcc", "tcc g 01 try"},

		 {"", "trans_type: has no \"trans_type\""},
		 {"http://h/p", "trans_type: has no \"trans_type\""},
		 {"/gid=g&branch_id=01&op=try&trans_type=tcc", "trans_type: has no \"trans_type\""},
		 {"branch_id=01&op=action&trans_type=saga", "gid: has no \"gid\""},
		 {"gid=&branch_id=01&op=action&trans_type=saga", "gid: has no \"gid\""},
		 {"gid=&gid=g&branch_id=01&op=action&trans_type=saga", "gid: has no \"gid\""},
		 {"gid&branch_id=01&op=action&trans_type=saga", "gid: has no \"gid\""},
		 {"gid=g&op=action&trans_type=saga", "branch_id: has no \"branch_id\""},
		 {"gid=g&branch_id=01&trans_type=saga", "op: has no \"op\""},
		 {"gid=%zz&branch_id=01&op=action&trans_type=saga",
		  "gid: has a \"gid\" with a malformed \"%\" escape"},
		 {"branch_id=01&op=action&trans_type=saga&gid=a%2",
		  "gid: has a \"gid\" with a malformed \"%\" escape"},
		 {"gid=a%00b&branch_id=01&op=action&trans_type=saga",
		  "gid: has a \"gid\" with a control character"},
		 {"gid=g&branch_id=01&op=a%0ab&trans_type=saga",
		  "op: has a \"op\" with a control character"},
		 {"gid=g&branch_id=01&op=action&trans_type=1234567890123456789012345678901234567890123456",
		  "trans_type: has a \"trans_type\" that is too long"}};
	char request[300];
	DtmRequest parsed;
	const char *field;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		check_request(cases[i][0], cases[i][1]);

	/* the longest gid, and one more */
	for (int n = DTM_MAX_GID_LEN; n <= DTM_MAX_GID_LEN + 1; n++)
	{
		int len =
			snprintf(request, sizeof(request), "branch_id=01&op=msg&trans_type=msg&gid=%0*d", n, 7);

		CHECK_STR(dtm_request_parse(request, (size_t) len, &parsed, &field),
				  n == DTM_MAX_GID_LEN ? NULL : "has a \"gid\" that is too long");
	}
}

int
main(void)
{
	test_targets();
	test_identifiers();
	test_bad_targets();
	test_url_for_call();
	test_room();
	test_requests();
	TEST_REPORT();
}
