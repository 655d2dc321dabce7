/* -------------------------------------------------------------------------
 *
 * curl_loop.c
 *		The base of the ratio "CPU per branch call": the least that libcurl's
 *		multi_socket interface over epoll needs for the same calls.
 *
 *		curl_loop URL CALLS IN_FLIGHT
 *
 * Every easy handle is set up once and added again when its call has ended,
 * all those of one epoll_wait together: requests sent in a row wake the
 * server once, which saves a fifth of the CPU.  No limits, no messages, no
 * copies: what http_loop costs beyond this is the price of src/net.  Same
 * output as http_loop.
 *
 * -------------------------------------------------------------------------
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>

static const char payload[] = "{\"amount\":30,\"account\":\"0123456789\"}";

static int	epoll_fd;
static long timer_ms = -1;
static CURLM *multi;
static long calls_wanted;
static long calls_started;
static long calls_ended;
static long calls_good;
static CURL **rested;			/* handles that wait to be used again */
static int	n_rested;

static int64_t
clock_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *marker)
{
	struct epoll_event event = {.data.fd = fd};

	(void) easy;
	(void) context;
	if (what == CURL_POLL_REMOVE)
	{
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.events = ((what & CURL_POLL_IN) ? EPOLLIN : 0) | ((what & CURL_POLL_OUT) ? EPOLLOUT : 0);
	epoll_ctl(epoll_fd, marker ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
	if (marker == NULL)
		curl_multi_assign(multi, fd, &epoll_fd);
	return 0;
}

static int
on_timer(CURLM *handle, long timeout_ms, void *context)
{
	(void) handle;
	(void) context;
	timer_ms = timeout_ms;
	return 0;
}

static size_t
on_body(char *data, size_t size, size_t count, void *context)
{
	(void) data;
	(void) context;
	return size * count;
}

static void
drain(void)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL	   *easy = message->easy_handle;
		long		status = 0;

		curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		if (message->data.result == CURLE_OK && status == 200)
			calls_good++;
		calls_ended++;
		curl_multi_remove_handle(multi, easy);
		rested[n_rested++] = easy;
	}
}

static void
start_rested(void)
{
	for (; n_rested > 0; n_rested--)
	{
		if (calls_started < calls_wanted)
		{
			calls_started++;
			curl_multi_add_handle(multi, rested[n_rested - 1]);
		}
		else
			curl_easy_cleanup(rested[n_rested - 1]);
	}
}

static void
start(const char *url, struct curl_slist *headers)
{
	CURL	   *easy = curl_easy_init();

	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_POST, 1L);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, payload);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) sizeof(payload) - 1);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, 3000L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	calls_started++;
	curl_multi_add_handle(multi, easy);
}

static void
run(void)
{
	struct epoll_event events[256];
	int			running;

	while (calls_ended < calls_wanted)
	{
		int			count = epoll_wait(epoll_fd, events, 256, (int) timer_ms);

		for (int i = 0; i < count; i++)
		{
			int			bits = ((events[i].events & EPOLLIN) ? CURL_CSELECT_IN : 0) |
				((events[i].events & EPOLLOUT) ? CURL_CSELECT_OUT : 0) |
				((events[i].events & (EPOLLERR | EPOLLHUP)) ? CURL_CSELECT_ERR : 0);

			curl_multi_socket_action(multi, events[i].data.fd, bits, &running);
			drain();
		}
		start_rested();
		if (count == 0 || timer_ms == 0)
		{
			timer_ms = -1;
			curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
			drain();
			start_rested();
		}
	}
}

int
main(int argc, char **argv)
{
	struct curl_slist *headers = NULL;
	int64_t		wall;
	int64_t		cpu;
	int			in_flight;

	if (argc != 4)
	{
		fprintf(stderr, "usage: curl_loop URL CALLS IN_FLIGHT\n");
		return 2;
	}
	calls_wanted = atol(argv[2]);
	in_flight = atoi(argv[3]);
	rested = calloc((size_t) in_flight + 1, sizeof(CURL *));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	curl_global_init(CURL_GLOBAL_ALL);
	multi = curl_multi_init();
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	/* the default follows the handles under way: connections would close between rounds */
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) in_flight + 1);
	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");

	wall = clock_us(CLOCK_MONOTONIC);
	cpu = clock_us(CLOCK_PROCESS_CPUTIME_ID);
	for (int i = 0; i < in_flight && calls_started < calls_wanted; i++)
		start(argv[1], headers);
	run();
	cpu = clock_us(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	wall = clock_us(CLOCK_MONOTONIC) - wall;

	printf("curl_loop calls %ld good %ld in_flight %d calls/s %.0f cpu_us/call %.2f\n", calls_ended,
		   calls_good, in_flight, (double) calls_ended * 1e6 / (double) wall,
		   (double) cpu / (double) calls_ended);
	return calls_good == calls_wanted ? 0 : 1;
}
