/* The engine behind every gateway of the benchmark. One thread, keep-alive, no work of its own.
 *
 *     engine PORT          (0 lets the system choose; the port is printed)
 *
 * It answers as the request's own OpenAI fields say, so that gateways which write a body anew
 * pass them on: without "stream" a JSON of 640 bytes after `seed` microseconds; with it `max_tokens`
 * events of about 220 bytes, one write each, the first at once if `seed` is 0 and each `seed`
 * microseconds after the one before. Every event carries this machine's clock. GET /stats tells
 * how many connections there were and when one was last closed on an answer under way.
 */
#include "wire.h"

enum { CONNECTIONS = 4096, REQUEST_BYTES = 1 << 20, EVENT_BYTES = 220, BODY_BYTES = 640 };

struct connection {
    int fd;
    char *in;
    size_t got;
    char out[1024]; /* what the socket did not take of the last write */
    size_t out_from, out_to;
    long events_left; /* -1: none under way */
    uint64_t every_ns, due_ns;
    int streams, watches_write;
};

static struct connection *connections[CONNECTIONS];
static int highest, epoll;
static uint64_t accepted, requests, cut_ns, cuts;
static char body[BODY_BYTES + 1];

static void make_body(void)
{
    int n = snprintf(body, sizeof body,
                     "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,"
                     "\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
                     "\"content\":\"");
    const char *end = "\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":20,"
                      "\"completion_tokens\":40,\"total_tokens\":60}}";
    for (; n < BODY_BYTES - (int)strlen(end); n++)
        body[n] = "lorem ipsum "[n % 12];
    strcpy(body + n, end);
}

/* Event or end of a stream, framed as one chunk. */
static size_t make_event(char *to, int last)
{
    char event[EVENT_BYTES + 64];
    int n;
    if (last)
        n = snprintf(event, sizeof event, "data: [DONE]\n\n");
    else
        n = snprintf(event, sizeof event,
                     "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\","
                     "\"created\":1700000000,\"model\":\"bench-of-the-gateway-and-its-peers\","
                     "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%020llu\"},"
                     "\"finish_reason\":null}]}\n\n",
                     (unsigned long long)now_ns());
    return (size_t)sprintf(to, "%x\r\n%s\r\n%s", (unsigned)n, event, last ? "0\r\n\r\n" : "");
}

static void watch(struct connection *c, int write)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
    if (c->watches_write != write)
        epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
    c->watches_write = write;
}

static void drop(struct connection *c)
{
    if (c->events_left >= 0) {
        cut_ns = now_ns();
        cuts++;
    }
    close(c->fd);
    connections[c->fd] = NULL;
    free(c->in);
    free(c);
}

/* Writes what is there; 0 if the connection is gone. */
static int flush_out(struct connection *c)
{
    while (c->out_from < c->out_to) {
        ssize_t n = write(c->fd, c->out + c->out_from, c->out_to - c->out_from);
        if (n < 0) {
            if (errno != EAGAIN)
                return 0;
            watch(c, 1);
            return 1;
        }
        c->out_from += (size_t)n;
    }
    watch(c, 0);
    return 1;
}

static int say(struct connection *c, const char *data, size_t length)
{
    memcpy(c->out, data, length);
    c->out_from = 0;
    c->out_to = length;
    return flush_out(c);
}

static long number(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    if (!at)
        return 0;
    at += strlen(name);
    while (*at == ' ' || *at == ':')
        at++;
    return strncmp(at, "true", 4) == 0 ? 1 : atol(at);
}

static int answer_plain(struct connection *c)
{
    char whole[1024];
    int n = sprintf(whole,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s",
                    BODY_BYTES, body);
    c->events_left = -1;
    return say(c, whole, (size_t)n);
}

static int answer_get(struct connection *c, const char *request)
{
    char whole[1024], json[512];
    int n;
    if (strncmp(request, "GET /stats", 10) == 0)
        n = sprintf(json, "{\"connections\":%llu,\"requests\":%llu,\"cuts\":%llu,\"cut_ns\":%llu}",
                    (unsigned long long)accepted, (unsigned long long)requests,
                    (unsigned long long)cuts, (unsigned long long)cut_ns);
    else
        n = sprintf(json, "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\"}]}");
    n = sprintf(whole,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s", n,
                json);
    return say(c, whole, (size_t)n);
}

static int answer_post(struct connection *c, const char *content)
{
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                               "transfer-encoding: chunked\r\n\r\n";
    requests++;
    c->streams = number(content, "\"stream\"") == 1;
    c->every_ns = (uint64_t)number(content, "\"seed\"") * 1000u;
    c->due_ns = c->every_ns ? now_ns() + c->every_ns : 0;
    c->events_left = c->streams ? number(content, "\"max_tokens\"") : 0;
    if (c->streams)
        return say(c, head, sizeof head - 1);
    return c->due_ns ? 1 : answer_plain(c);
}

/* One step of an answer under way, if it is due. */
static int step(struct connection *c, uint64_t now)
{
    char chunk[512];
    if (c->events_left < 0 || c->due_ns > now || c->out_from < c->out_to)
        return 1;
    if (!c->streams)
        return answer_plain(c);
    size_t n = make_event(chunk, c->events_left == 0);
    c->events_left--;
    if (c->every_ns)
        c->due_ns = c->events_left ? c->due_ns + c->every_ns : now;
    return say(c, chunk, n);
}

/* Reads and answers whole requests; 0 if the connection is gone. */
static int take(struct connection *c)
{
    ssize_t n = read(c->fd, c->in + c->got, REQUEST_BYTES - c->got);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        return 0;
    if (n > 0)
        c->got += (size_t)n;
    c->in[c->got] = 0;
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end)
        return 1;
    end += 4;
    char *field = strcasestr(c->in, "\r\ncontent-length:");
    size_t length = field && field < end ? strtoul(field + 17, NULL, 10) : 0;
    size_t whole = (size_t)(end - c->in) + length;
    if (c->got < whole)
        return 1;
    int alive = c->in[0] == 'G' ? answer_get(c, c->in) : answer_post(c, end);
    memmove(c->in, c->in + whole, c->got - whole);
    c->got -= whole;
    return alive;
}

static void welcome(int listener)
{
    int fd;
    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        if (!c || fd >= CONNECTIONS)
            die("too many connections");
        set_up(fd);
        c->fd = fd;
        c->in = malloc(REQUEST_BYTES + 1);
        c->events_left = -1;
        connections[fd] = c;
        highest = fd > highest ? fd : highest;
        accepted++;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

/* Lets every answer go one step on, and returns when the next is due (0: none, 1: at once). */
static uint64_t turn(void)
{
    uint64_t now = now_ns(), next = 0;
    for (int fd = 0; fd <= highest; fd++) {
        struct connection *c = connections[fd];
        if (!c || c->events_left < 0)
            continue;
        if (!step(c, now)) {
            drop(c);
            continue;
        }
        if (c->events_left < 0 || c->out_from < c->out_to)
            continue;
        uint64_t due = c->due_ns ? c->due_ns : 1;
        next = !next || due < next ? due : next;
    }
    return next;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = local(argc > 1 ? atoi(argv[1]) : 0);
    socklen_t size = sizeof address;
    struct epoll_event events[256], event = {.events = EPOLLIN, .data.ptr = NULL};
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    signal(SIGPIPE, SIG_IGN);
    make_body();
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (void *)&address, size) || listen(listener, 1024))
        die("listen");
    fcntl(listener, F_SETFL, O_NONBLOCK);
    getsockname(listener, (void *)&address, &size);
    printf("{\"port\":%d}\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (uint64_t next = 0;; next = turn()) {
        int count = wait_until(epoll, events, 256, next);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c)
                welcome(listener);
            else if ((events[i].events & EPOLLOUT && !flush_out(c)) ||
                     (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !take(c)))
                drop(c);
        }
    }
}
