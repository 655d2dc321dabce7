/* -------------------------------------------------------------------------
 *
 * test_answer.c
 *		The meaning of HTTP answers, and the texts made of them.
 *
 * -------------------------------------------------------------------------
 */
#include "dtm_answer.h"
#include "dtm_test.h"

static void
test_meaning(void)
{
	/* DTM protocol, 4.3: in this order, and the words count with any status */
	static const struct
	{
		int status;
		const char *body;
		DtmOutcome outcome;
	} cases[] = {{200, "", DTM_OUTCOME_SUCCESS},
				 {200, "{\"dtm_result\":\"SUCCESS\"}", DTM_OUTCOME_SUCCESS},
				 {200, "{\"dtm_result\":\"FAILURE\"}", DTM_OUTCOME_FAILURE},
				 {200, "FAILURE", DTM_OUTCOME_FAILURE},
				 {200, "FAILUR", DTM_OUTCOME_SUCCESS},
				 {200, "failure", DTM_OUTCOME_SUCCESS},
				 {200, "FFAILURE", DTM_OUTCOME_FAILURE},
				 {200, "FAILFAILURE.", DTM_OUTCOME_FAILURE},
				 {200, "ONGOING", DTM_OUTCOME_ONGOING},
				 {409, "", DTM_OUTCOME_FAILURE},
				 {409, "no stock", DTM_OUTCOME_FAILURE},
				 {409, "ONGOING", DTM_OUTCOME_ONGOING},
				 {425, "", DTM_OUTCOME_ONGOING},
				 {425, "FAILURE", DTM_OUTCOME_ONGOING},
				 {500, "", DTM_OUTCOME_ERROR},
				 {500, "stack trace: FAILURE", DTM_OUTCOME_FAILURE},
				 {500, "is ONGOING, no FAILURE", DTM_OUTCOME_ONGOING},
				 {201, "", DTM_OUTCOME_ERROR},
				 {204, "", DTM_OUTCOME_ERROR},
				 {302, "", DTM_OUTCOME_ERROR},
				 {404, "not found", DTM_OUTCOME_ERROR},
				 {0, "", DTM_OUTCOME_ERROR}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (!CHECK_INT(dtm_answer_meaning(cases[i].status, cases[i].body, strlen(cases[i].body)),
					   cases[i].outcome))
			printf("    %d %s\n", cases[i].status, cases[i].body);

	CHECK_INT(dtm_answer_meaning(200, NULL, 0), DTM_OUTCOME_SUCCESS);
	CHECK_INT(dtm_answer_meaning(200, "a\0FAILURE", 9), DTM_OUTCOME_FAILURE);
	CHECK_INT(dtm_answer_meaning(200, "FAILURE", 6), DTM_OUTCOME_SUCCESS);
}

static void
check_reason(int status, const char *body, const char *expected)
{
	char buffer[200];
	size_t len = dtm_answer_reason(status, body, strlen(body), buffer, sizeof(buffer));

	CHECK_STR(buffer, expected);
	CHECK_INT(len, strlen(expected));
}

static void
test_reason(void)
{
	check_reason(409, "no stock", "409: no stock");
	check_reason(500, "  a\r\n\t b  \n", "500: a b");
	check_reason(502, "", "502");
	check_reason(502, " \n", "502");
	check_reason(0, "could not connect", "could not connect");
	check_reason(0, "", "");
	check_reason(500, "bell\x07 esc\x1b[2J del\x7f", "500: bell? esc?[2J del?");
	check_reason(500, "M\xc3\xbcller \xe2\x82\xac \xf0\x9f\x98\x80",
				 "500: M\xc3\xbcller \xe2\x82\xac \xf0\x9f\x98\x80");

	/* latin 1, a cut character, overlong, a surrogate, beyond Unicode, C1 control */
	check_reason(500, "M\xfcller", "500: M?ller");
	check_reason(500, "a\xe2\x82", "500: a??");
	check_reason(500, "\xc0\xaf \xe0\x80\xaf", "500: ?? ???");
	check_reason(500, "\xed\xa0\x80", "500: ???");
	check_reason(500, "\xf4\x90\x80\x80", "500: ????");
	check_reason(500, "\xc2\x9b", "500: ??");
}

static void
test_bounds(void)
{
	const char *body = "a\xe2\x82\xac"
					   "b c";
	char expected[32] = "";

	for (size_t size = 0; size <= 16; size++)
	{
		char *buffer = malloc(size + 1);
		size_t len;

		buffer[size] = '#';
		len = dtm_answer_reason(409, body, strlen(body), buffer, size);
		CHECK(buffer[size] == '#');
		CHECK(size == 0 ? len == 0 : len < size && buffer[len] == '\0');
		if (size == 7 || size == 8 || size == 9)
			CHECK_STR(buffer, "409: a"); /* no half of the Euro sign */
		if (size > 0)
		{
			/* a longer buffer only adds */
			CHECK(strncmp(buffer, expected, strlen(expected)) == 0 || strlen(expected) < 6);
			strcpy(expected, buffer);
		}
		free(buffer);
	}
	CHECK_STR(expected,
			  "409: a\xe2\x82\xac"
			  "b c");
}

static void
check_rollback(const char *url, const char *body, const char *expected)
{
	char buffer[200];
	size_t len =
		dtm_answer_rollback_reason(test_text(url), body, strlen(body), buffer, sizeof(buffer));

	CHECK_STR(buffer, expected);
	CHECK_INT(len, strlen(expected));
}

static void
test_rollback_reason(void)
{
	check_rollback("http://h/pay", "no money", "url:http://h/pay return failed: no money FAILURE");
	check_rollback("http://h/pay", "no money FAILURE\n",
				   "url:http://h/pay return failed: no money FAILURE");
	check_rollback("http://h/pay", "{\"dtm_result\":\"FAILURE\"}",
				   "url:http://h/pay return failed: {\"dtm_result\":\"FAILURE\"} FAILURE");
	check_rollback("http://h/pay", "FAILURE", "url:http://h/pay return failed: FAILURE");
	check_rollback("http://h/pay", "", "url:http://h/pay return failed: FAILURE");
	check_rollback("sql:f", "a\nb", "url:sql:f return failed: a b FAILURE");

	for (size_t size = 0; size <= 80; size++)
	{
		char *buffer = malloc(size + 1);
		size_t len;

		buffer[size] = '#';
		len = dtm_answer_rollback_reason(test_text("http://a.example.com/a/rather/long/path"),
										 "out of money", 12, buffer, size);
		CHECK(buffer[size] == '#');
		CHECK(size == 0 ? len == 0 : len < size && strlen(buffer) == len);
		if (size >= 8)
			CHECK_STR(buffer + len - 7, "FAILURE");
		free(buffer);
	}
}

static void
test_utf8(void)
{
	static const char *const good[] = {"",         "a\t\n\x01",    "\xc3\xbc",
									   "\xc2\x80", "\xe2\x82\xac", "\xf0\x9f\x98\x80x"};
	static const char *const bad[] = {"\xc3",         "\x80",     "a\xff",
									  "\xc0\x80",     "\xc1\xbf", "\xe0\x80\x80",
									  "\xed\xa0\x80", "\xc2",     "\xf4\x90\x80\x80"};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(dtm_text_is_utf8(good[i], strlen(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!dtm_text_is_utf8(bad[i], strlen(bad[i])));
	CHECK(!dtm_text_is_utf8("a\0b", 3));
	CHECK(!dtm_text_is_utf8("\xc3\xbc", 1));
}

int
main(void)
{
	test_meaning();
	test_reason();
	test_bounds();
	test_rollback_reason();
	test_utf8();
	TEST_REPORT();
}
