/* A virtual clock to preload into a cron daemon (Debian cron 3.0pl1, cronie), and a list of starts.
 *
 * The clock stands still but for sleep() and select(), which move it on. The daemon's own code decides,
 * minute by minute, what is due; its fork() of a job starts nothing. Which job it was is told by what
 * follows in both daemons' job.c, `do_command(j->e, j->u); free(j);`: the block that is freed holds the
 * crontab entry. At the end of the virtual time, VCLOCK_OUT receives for each entry the line
 * "STARTS <count> <command>" and that many 8-byte epoch seconds; the daemon's own log lines
 * precede them as "LOG <epoch> <text>".
 *
 * Environment: VCLOCK_START, VCLOCK_END (epoch seconds), VCLOCK_OUT (a file), VCLOCK_DEADLINE (real
 * seconds until the daemon is ended), VCLOCK_JUMPS ("epoch:seconds ...", in order of time: when
 * the clock arrives at that instant, it is set forward or, with a minus, back).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { SLOTS = 1 << 16, ZONES = 1024, AHEAD = 256 };

/* cron.h of both daemons: what a job and an entry begin with. */
struct entry { struct entry *next; void *owner; char **environment; char *command; };
struct job { struct job *next; struct entry *entry; void *user; };

struct starts { struct entry *entry; char *command; size_t count, room; int64_t *at; };

extern void __libc_free(void *);

static time_t now, end;
static const char *jumps;
static FILE *out;
static int started, a_job_was_forked;
static struct starts table[SLOTS];

/* cronie sets TZ and asks for the local time at every entry of every minute. libc's answers are kept, and
 * where it has to change its zone, those of the next minutes are asked for at once. */
struct answer { time_t at; struct tm tm; };
struct zone { char *name; struct answer answers[AHEAD]; };
static struct zone zones[ZONES], *zone = zones, *zone_of_libc;
static struct answer utc;
static struct tm *(*libc_localtime)(const time_t *);
static struct tm *(*libc_gmtime)(const time_t *);
static int (*libc_setenv)(const char *, const char *, int);
static struct passwd *(*libc_getpwnam)(const char *);
static int (*libc_stat)(const char *, struct stat *);
static char *(*libc_getenv)(const char *);

static long long number(const char *name) {
  const char *text = libc_getenv(name);
  if (!text) { fprintf(stderr, "vclock: %s is not set\n", name); _exit(2); }
  return atoll(text);
}

__attribute__((constructor)) static void begin(void) {
  libc_localtime = dlsym(RTLD_NEXT, "localtime");
  libc_gmtime = dlsym(RTLD_NEXT, "gmtime");
  libc_getpwnam = dlsym(RTLD_NEXT, "getpwnam");
  libc_stat = dlsym(RTLD_NEXT, "stat");
  libc_setenv = dlsym(RTLD_NEXT, "setenv");
  libc_getenv = dlsym(RTLD_NEXT, "getenv");
  zone->name = strdup(libc_getenv("TZ"));
  now = number("VCLOCK_START");
  end = number("VCLOCK_END");
  jumps = libc_getenv("VCLOCK_JUMPS");
  out = fopen(libc_getenv("VCLOCK_OUT"), "we");
  if (!out) { perror("vclock: VCLOCK_OUT"); _exit(2); }
  alarm((unsigned)number("VCLOCK_DEADLINE"));
}

static void finish(void) {
  for (struct starts *s = table; s < table + SLOTS; s++)
    if (s->entry) {
      fprintf(out, "STARTS %zu %s\n", s->count, s->command);
      fwrite(s->at, sizeof *s->at, s->count, out);
    }
  _exit(fclose(out) ? 2 : 0);
}

static void jump(void) {
  char *rest;
  while (jumps && *jumps) {
    long long at = strtoll(jumps, &rest, 10);
    if (*rest != ':' || now < at) return;
    now += strtoll(rest + 1, &rest, 10);
    jumps = rest;
  }
}

static void pass(time_t seconds) {
  started = 1;
  now += seconds;
  jump();
  if (now > end) finish();
}

static struct starts *starts_of(struct entry *entry) {
  size_t slot = ((size_t)entry >> 4) * 0x9E3779B97F4A7C15u >> 48;
  for (size_t tried = 0; tried < SLOTS; tried++, slot = (slot + 1) % SLOTS) {
    struct starts *s = table + slot;
    if (s->entry == entry && !strcmp(s->command, entry->command)) return s;
    if (!s->entry) {
      s->entry = entry;
      s->command = strdup(entry->command);
      return s;
    }
  }
  fputs("vclock: too many entries\n", stderr);
  _exit(2);
}

static void record(struct entry *entry) {
  struct starts *s = starts_of(entry);
  if (s->count == s->room) {
    s->room = s->room ? 2 * s->room : 64;
    s->at = realloc(s->at, s->room * sizeof *s->at);
    if (!s->at) { perror("vclock"); _exit(2); }
  }
  s->at[s->count++] = now;
}

/* What the daemon asks the system for. */

pid_t fork(void) { a_job_was_forked = 1; return 99999; }

void free(void *block) {
  if (a_job_was_forked && block) {
    a_job_was_forked = 0;
    record(((struct job *)block)->entry);
  }
  __libc_free(block);
}

time_t time(time_t *at) { if (at) *at = now; return now; }
int gettimeofday(struct timeval *at, void *zone) { (void)zone; *at = (struct timeval){now, 0}; return 0; }
unsigned sleep(unsigned seconds) { pass(seconds); return 0; }
int select(int n, fd_set *r, fd_set *w, fd_set *e, struct timeval *wait) {
  (void)n, (void)w, (void)e;
  if (r) FD_ZERO(r);
  if (wait) pass(wait->tv_sec);
  return 0;
}

int setenv(const char *name, const char *value, int overwrite) {
  if (strcmp(name, "TZ")) return libc_setenv(name, value, overwrite);
  if (!strcmp(zone->name, value)) return 0;
  for (zone = zones; zone->name && strcmp(zone->name, value); zone++)
    if (zone == zones + ZONES - 2) { fputs("vclock: too many zones\n", stderr); _exit(2); }
  if (!zone->name) zone->name = strdup(value);
  return 0;
}
char *getenv(const char *name) { return strcmp(name, "TZ") ? libc_getenv(name) : zone->name; }

static struct answer *answer_at(time_t at) { return &zone->answers[at / 60 % AHEAD]; }
static void ask(time_t at) { *answer_at(at) = (struct answer){at, *libc_localtime(&at)}; }

struct tm *localtime(const time_t *at) {
  static struct tm tm;
  if (answer_at(*at)->at != *at) {
    int ahead = zone == zone_of_libc ? 1 : AHEAD;
    if (zone != zone_of_libc) libc_setenv("TZ", zone->name, 1);
    zone_of_libc = zone;
    for (int i = 0; i < ahead; i++) ask(*at + 60 * i);
  }
  tm = answer_at(*at)->tm;
  return &tm;
}
struct tm *localtime_r(const time_t *at, struct tm *tm) { *tm = *localtime(at); return tm; }
struct tm *gmtime(const time_t *at) {
  static struct tm tm;
  if (utc.at != *at) {
    utc.tm = *libc_gmtime(at);
    utc.at = *at;
  }
  tm = utc.tm;
  return &tm;
}

/* cronie looks the user up at every start; there is one. */
struct passwd *getpwnam(const char *name) {
  static struct passwd *user;
  if (!user || strcmp(user->pw_name, name)) user = libc_getpwnam(name);
  return user;
}

/* Both look every minute whether files have changed; once the clock moves, none does. */
int stat(const char *path, struct stat *status) {
  static struct { char *path; struct stat status; } seen[8];
  size_t i = 0;
  for (; started && i < sizeof seen / sizeof *seen && seen[i].path; i++)
    if (!strcmp(seen[i].path, path)) { *status = seen[i].status; return 0; }
  int failed = libc_stat(path, status);
  if (started && !failed && i < sizeof seen / sizeof *seen) {
    seen[i].path = strdup(path);
    seen[i].status = *status;
  }
  return failed;
}

pid_t wait(int *status) { (void)status; errno = ECHILD; return -1; }
pid_t waitpid(pid_t pid, int *status, int options) { (void)pid, (void)options; return wait(status); }

static void say(const char *format, va_list values) {
  fprintf(out, "LOG %lld ", (long long)now);
  vfprintf(out, format, values);
  fputc('\n', out);
}
void syslog(int priority, const char *format, ...) {
  (void)priority;
  va_list values;
  va_start(values, format);
  say(format, values);
  va_end(values);
}
void __syslog_chk(int priority, int flag, const char *format, ...) {
  (void)priority, (void)flag;
  va_list values;
  va_start(values, format);
  say(format, values);
  va_end(values);
}
