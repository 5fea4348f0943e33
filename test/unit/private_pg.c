/*
 * private_pg.c - a PostgreSQL server of the test's own.
 */
#include "private_pg.h"

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/unconst.h"
#include "io/pg.h"

#define START_TIMEOUT_US 60000000

struct private_pg {
	char dir[64];
	char data[96];
	char log[96];
	char server[320];
	pid_t pid;
	char conninfo[160];
	char bindir[256];
};

static int bindir_find(struct private_pg *p)
{
	FILE *f = popen("pg_config --bindir", "r");
	int rc = -1;

	if (f == NULL)
		return -1;
	if (fgets(p->bindir, sizeof(p->bindir), f) != NULL) {
		p->bindir[strcspn(p->bindir, "\n")] = '\0';
		rc = 0;
	}
	return pclose(f) == 0 ? rc : -1;
}

static void become_postgres(void)
{
	const struct passwd *user;

	if (geteuid() != 0)
		return;
	user = getpwnam("postgres");
	if (user == NULL || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)
		_exit(126);
}

/* The program's output goes to a log file in the directory. */
static int run(const struct private_pg *p, const char *const *argv)
{
	char path[320];
	int status;
	pid_t pid;

	snprintf(path, sizeof(path), "%s/%s", p->bindir, argv[0]);
	pid = fork();
	if (pid < 0)
		return -1;
	if (pid == 0) {
		int fd;

		become_postgres();
		fd = open(p->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
		if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0 || chdir("/") != 0)
			_exit(126);
		execv(path, unconst(argv));
		_exit(127);
	}
	if (waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

static int directory_make(struct private_pg *p)
{
	const struct passwd *user = getpwnam("postgres");

	snprintf(p->dir, sizeof(p->dir), "/tmp/assent-test-XXXXXX");
	if (mkdtemp(p->dir) == NULL)
		return -1;
	if (geteuid() == 0 && (user == NULL || chown(p->dir, user->pw_uid, user->pw_gid) != 0))
		return -1;
	snprintf(p->data, sizeof(p->data), "%s/data", p->dir);
	snprintf(p->log, sizeof(p->log), "%s/log", p->dir);
	snprintf(p->server, sizeof(p->server), "%s/postgres", p->bindir);
	snprintf(p->conninfo, sizeof(p->conninfo), "host=%s user=assent dbname=postgres", p->dir);
	return 0;
}

static int server_init(const struct private_pg *p)
{
	const char *argv[] = {"initdb",     "-D",        p->data, "-U",
	                      "assent",     "-A",        "trust", "--encoding=UTF8",
	                      "--locale=C", "--no-sync", NULL};

	return run(p, argv);
}

/* The kernel stops it when the test dies in whatever way. */
static pid_t server_spawn(const struct private_pg *p, const char *const *argv, int log)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	become_postgres();
	if (prctl(PR_SET_PDEATHSIG, SIGQUIT) != 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 ||
	    chdir("/") != 0)
		_exit(126);
	execv(p->server, unconst(argv));
	_exit(127);
}

static int server_wait(const struct private_pg *p)
{
	const struct timespec pause = {0, 10000000};
	const char *sql = "SELECT 1";
	int64_t deadline = clock_mono_us() + START_TIMEOUT_US;
	char why[256];

	while (pg_run(p->conninfo, &sql, 1, NULL, why, sizeof(why)) != 0) {
		if (clock_mono_us() > deadline || waitpid(p->pid, NULL, WNOHANG) != 0) {
			fprintf(stderr, "private PostgreSQL: %s\n", why);
			return -1;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

int private_pg_resume(struct private_pg *p)
{
	const char *argv[] = {"postgres",
	                      "-D",
	                      p->data,
	                      "-k",
	                      p->dir,
	                      "-c",
	                      "listen_addresses=",
	                      "-c",
	                      "fsync=off",
	                      "-c",
	                      "max_prepared_transactions=300",
	                      NULL};
	int log = open(p->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (log < 0)
		return -1;
	p->pid = server_spawn(p, argv, log);
	close(log);
	return p->pid > 0 ? server_wait(p) : -1;
}

int private_pg_crash(struct private_pg *p)
{
	pid_t pid = p->pid;

	p->pid = 0;
	if (pid <= 0 || kill(pid, SIGQUIT) != 0)
		return -1;
	return waitpid(pid, NULL, 0) == pid ? 0 : -1;
}

static void directory_remove(const struct private_pg *p)
{
	const char *argv[] = {"/bin/rm", "-rf", p->dir, NULL};
	pid_t pid = fork();

	if (pid == 0) {
		execv(argv[0], unconst(argv));
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

struct private_pg *private_pg_start(void)
{
	struct private_pg *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	if (bindir_find(p) != 0 || directory_make(p) != 0 || server_init(p) != 0 ||
	    private_pg_resume(p) != 0) {
		fprintf(stderr, "private PostgreSQL: cannot start, see %s\n", p->dir);
		free(p);
		return NULL;
	}
	return p;
}

void private_pg_stop(struct private_pg *p)
{
	if (p == NULL)
		return;
	(void)private_pg_crash(p);
	directory_remove(p);
	free(p);
}

const char *private_pg_conninfo(const struct private_pg *p)
{
	return p->conninfo;
}
