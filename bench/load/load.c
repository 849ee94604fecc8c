/* The load of the benchmark: so many connections, each asking again as soon as it has its answer.
 *
 *     load PORT CONNECTIONS SECONDS FILE [REQUESTS [SPREAD]]
 *
 * FILE holds one whole request as it goes out. The load ends after SECONDS, or after REQUESTS if
 * that is given and not 0; connections begin SPREAD microseconds apart, so that timed streams are
 * not in step with one another. One line of JSON says what came of it: whole answers, errors (any status
 * but 200, any answer that broke), connections opened, latency of whole answers, time to the first
 * event of each stream, and the age of each event on arrival, by the clock that it carries. An
 * event is late if it arrives after LATE_NS.
 */
#include "wire.h"

enum { SAMPLES = 1 << 22, BUFFER = 1 << 18, TAIL = 64, LATE_NS = 4000000 };

struct client {
    int fd;
    uint64_t asked;
    long length, total, head; /* of the body (-1: chunks), of all that came, of the head */
    int in_body, streams, first, done, failed;
    char tail[BUFFER + TAIL + 1];
    size_t kept;
};

struct samples {
    uint32_t *ns;
    size_t count;
    uint64_t most;
};

static struct samples latency, first_event, age;
static uint64_t answers, errors, opened, events_seen, late, bytes;
static char *request;
static size_t request_size;
static int epoll, port;

static void note(struct samples *s, uint64_t ns)
{
    if (!s->ns)
        s->ns = malloc(SAMPLES * sizeof *s->ns);
    s->ns[s->count++ % SAMPLES] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
    s->most = ns > s->most ? ns : s->most;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void tell(const char *name, struct samples *s)
{
    size_t n = s->count < SAMPLES ? s->count : SAMPLES;
    if (!n)
        return;
    qsort(s->ns, n, sizeof *s->ns, ascending);
    printf(",\"%s_p50_us\":%.1f,\"%s_p99_us\":%.1f,\"%s_max_us\":%.1f", name, s->ns[n / 2] / 1e3, name,
           s->ns[n * 99 / 100] / 1e3, name, (double)s->most / 1e3);
}

static void ask(struct client *c)
{
    c->in_body = c->streams = c->first = c->done = c->failed = 0;
    c->kept = 0;
    c->total = 0;
    c->asked = now_ns();
    if (write(c->fd, request, request_size) != (ssize_t)request_size)
        errors++;
}

static void dial(struct client *c)
{
    struct sockaddr_in address = local(port);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (void *)&address, sizeof address))
        die("connect");
    set_up(c->fd);
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
    opened++;
    ask(c);
}

/* Reads the head once it is whole; returns the offset of the body, 0 if more is needed. */
static size_t read_head(struct client *c, char *data)
{
    char *end = strstr(data, "\r\n\r\n");
    if (!end)
        return 0;
    *end = 0;
    char *length = strcasestr(data, "\r\ncontent-length:");
    c->length = length ? atol(length + 17) : -1;
    c->streams = strcasestr(data, "text/event-stream") != NULL;
    c->failed = strncmp(data + 8, " 200", 4) != 0;
    c->in_body = 1;
    return (size_t)(end - data) + 4;
}

/* Looks at every event in data[0..size); returns how many bytes at the end to look at again. */
static size_t look(struct client *c, const char *data, size_t size)
{
    static const char mark[] = "\"content\":\"0";
    const char *at = data, *end = data + size, *seen = data;
    uint64_t now = now_ns();
    while ((at = memmem(at, (size_t)(end - at), mark, sizeof mark - 1)) && end - at > 40) {
        uint64_t born = strtoull(at + sizeof mark - 2, NULL, 10);
        at += sizeof mark;
        seen = at;
        if (!born || born > now)
            continue;
        if (!c->first++)
            note(&first_event, now - c->asked);
        note(&age, now - born);
        late += now - born > LATE_NS;
        events_seen++;
    }
    if (memmem(seen, (size_t)(end - seen), "data: [DONE]", 12))
        c->done = 1;
    size_t left = (size_t)(end - seen);
    return left < TAIL ? left : TAIL;
}

static void finish(struct client *c, int whole)
{
    if (!whole || c->failed)
        errors++;
    else {
        answers++;
        note(&latency, now_ns() - c->asked);
    }
}

/* Whether the answer is over, given the end of what came. */
static int is_over(struct client *c, const char *data, size_t size)
{
    if (c->length >= 0)
        return c->total - c->head >= c->length;
    if (c->streams && !c->done)
        return 0;
    return size >= 5 && memcmp(data + size - 5, "0\r\n\r\n", 5) == 0;
}

static void take(struct client *c, int asks_on)
{
    char *data = c->tail;
    ssize_t n = read(c->fd, data + c->kept, BUFFER);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        close(c->fd);
        if (c->asked)
            finish(c, c->done && c->length < 0);
        if (asks_on)
            dial(c);
        return;
    }
    bytes += (uint64_t)n;
    c->total += n;
    size_t size = c->kept + (size_t)n, from = 0;
    data[size] = 0;
    if (!c->in_body) {
        c->kept = size;
        from = read_head(c, data);
        if (!from)
            return;
        c->head = (long)from;
    }
    size_t keep = c->streams ? look(c, data + from, size - from) : 0;
    if (is_over(c, data, size)) {
        finish(c, 1);
        c->asked = 0;
        if (asks_on)
            ask(c);
        return;
    }
    keep = keep < 16 ? (size - from < 16 ? size - from : 16) : keep;
    memmove(data, data + size - keep, keep);
    c->kept = keep;
}

static void read_request(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        die(path);
    request = malloc(1 << 20);
    request_size = fread(request, 1, 1 << 20, file);
    fclose(file);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "load PORT CONNECTIONS SECONDS FILE [REQUESTS [SPREAD]]\n");
        return 2;
    }
    port = atoi(argv[1]);
    int count = atoi(argv[2]);
    uint64_t most = argc > 5 ? strtoull(argv[5], NULL, 10) : 0;
    struct client *clients = calloc((size_t)count, sizeof *clients);
    struct epoll_event events[1024];
    signal(SIGPIPE, SIG_IGN);
    read_request(argv[4]);
    epoll = epoll_create1(0);
    useconds_t spread = argc > 6 ? (useconds_t)atoi(argv[6]) : 0;
    for (int i = 0; i < count; i++) {
        dial(&clients[i]);
        if (spread)
            usleep(spread);
    }
    uint64_t start = now_ns(), end = start + (uint64_t)(atof(argv[3]) * 1e9);
    while (now_ns() < end && (!most || answers + errors < most)) {
        int ready = wait_until(epoll, events, 1024, end);
        for (int i = 0; i < ready; i++)
            take(events[i].data.ptr, 1);
    }
    printf("{\"answers\":%llu,\"errors\":%llu,\"opened\":%llu,\"seconds\":%.6f,\"events\":%llu,"
           "\"late\":%llu,\"bytes\":%llu",
           (unsigned long long)answers, (unsigned long long)errors, (unsigned long long)opened,
           (double)(now_ns() - start) / 1e9, (unsigned long long)events_seen, (unsigned long long)late,
           (unsigned long long)bytes);
    tell("latency", &latency);
    tell("first", &first_event);
    tell("age", &age);
    printf("}\n");
    return 0;
}
