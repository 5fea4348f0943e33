#include "node/dev_pg.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "io/pg.h"

#define DIR_MAX    80 /* a socket path has at most 107 bytes */
#define PATH_BYTES 160
#define START_US   (INT64_C(30) * 1000000)
#define FAST_US    (INT64_C(5) * 1000000)
#define STOP_US    (INT64_C(15) * 1000000)

#define LAUNCH_MAX      10
#define LAUNCH_PAUSE_US 300000

struct dev_pg {
	char dir[DIR_MAX + 1];
	char bin[PATH_BYTES];
	uid_t uid; /* who runs it */
	gid_t gid;
	bool drop; /* we are root and must become that user */
	int lock_fd;
	pid_t child; /* 0 when it was adopted */
	int64_t next_try_us;
};

static void pause_briefly(void)
{
	(void)usleep(20000);
}

static void path_of(const struct dev_pg *d, const char *name, char *out)
{
	(void)snprintf(out, PATH_BYTES, "%s/%s", d->dir, name);
}

/* In the child, after fork. The log takes what it says; no descriptor of ours goes along. */
static void become(const struct dev_pg *d, const char *const argv[])
{
	char log[PATH_BYTES];
	sigset_t none;
	int fd;

	path_of(d, "postgres.log", log);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (setsid() < 0)
		_exit(126);
	if (d->drop &&
	    (initgroups("postgres", d->gid) < 0 || setgid(d->gid) < 0 || setuid(d->uid) < 0))
		_exit(126);
	fd = open("/dev/null", O_RDONLY);
	if (fd < 0 || dup2(fd, 0) < 0)
		_exit(126);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0 || chdir("/") < 0)
		_exit(126);
	if (close_range(3, ~0u, 0) < 0)
		_exit(126);
	execv(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

static pid_t spawn(const struct dev_pg *d, const char *const argv[])
{
	pid_t pid = fork();

	if (pid == 0)
		become(d, argv);
	return pid;
}

static int find_binaries(struct dev_pg *d, char *why, size_t why_size)
{
	char program[PATH_BYTES + 16];
	FILE *f = popen("pg_config --bindir 2>/dev/null", "r");

	if (f) {
		if (!fgets(d->bin, sizeof d->bin, f))
			d->bin[0] = '\0';
		(void)pclose(f);
	}
	d->bin[strcspn(d->bin, "\n")] = '\0';
	(void)snprintf(program, sizeof program, "%s/postgres", d->bin);
	if (*d->bin && access(program, X_OK) == 0)
		return 0;
	(void)snprintf(why, why_size,
	               "no PostgreSQL server found (pg_config --bindir): install Debian's "
	               "postgresql package, or give --database instead of --dev");
	return ERR_NOTFOUND;
}

static int find_user(struct dev_pg *d, char *why, size_t why_size)
{
	struct passwd *pw;

	d->uid = geteuid();
	d->gid = getegid();
	if (d->uid != 0)
		return 0;
	/* initdb and postgres refuse to run as root. */
	pw = getpwnam("postgres");
	if (!pw) {
		(void)snprintf(
		    why, why_size,
		    "PostgreSQL does not run as root, and there is no user postgres: run "
		    "assentd --dev as an ordinary user");
		return ERR_NOTFOUND;
	}
	d->drop = true;
	d->uid = pw->pw_uid;
	d->gid = pw->pw_gid;
	return 0;
}

/* The directory is ours alone: others must not be able to put a socket or data there. */
static int make_dir(const struct dev_pg *d, const char *path, char *why, size_t why_size)
{
	struct stat st;

	if (mkdir(path, 0700) == 0) {
		if (!d->drop || chown(path, d->uid, d->gid) == 0)
			return 0;
	} else if (errno == EEXIST && lstat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		if (st.st_uid != d->uid && st.st_uid == geteuid() && d->drop &&
		    chown(path, d->uid, d->gid) == 0)
			st.st_uid = d->uid;
		if (st.st_uid == d->uid && chmod(path, 0700) == 0)
			return 0;
		errno = EPERM;
	}
	(void)snprintf(why, why_size, "%s cannot be used for --dev: %s; choose another --dev-dir",
	               path, strerror(errno));
	return ERR_IO;
}

static int take_lock(struct dev_pg *d, char *why, size_t why_size)
{
	char path[PATH_BYTES];

	path_of(d, "lock", path);
	d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d->lock_fd >= 0 && flock(d->lock_fd, LOCK_SH) == 0)
		return 0;
	(void)snprintf(why, why_size, "%s: %s", path, strerror(errno));
	return ERR_IO;
}

/* Two that start at once take turns: one makes what the other adopts. */
static int take_turn(const struct dev_pg *d, int *fd, char *why, size_t why_size)
{
	char path[PATH_BYTES];

	path_of(d, "lock.start", path);
	*fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (*fd >= 0 && flock(*fd, LOCK_EX) == 0)
		return 0;
	(void)snprintf(why, why_size, "%s: %s", path, strerror(errno));
	return ERR_IO;
}

/* Into a directory that gets its name last, so that a half-made one is never started. */
static int make_cluster(const struct dev_pg *d, char *why, size_t why_size)
{
	char data[PATH_BYTES], fresh[PATH_BYTES], initdb[PATH_BYTES + 16];
	const char *const init_argv[] = {initdb,  "-D", fresh,  "-U",         "assent",    "-A",
	                                 "trust", "-E", "UTF8", "--locale=C", "--no-sync", NULL};
	const char *const rm_argv[] = {"/bin/rm", "-rf", fresh, NULL};
	int status = -1;
	pid_t pid;

	path_of(d, "data", data);
	path_of(d, "data.new", fresh);
	(void)snprintf(initdb, sizeof initdb, "%s/initdb", d->bin);
	if (access(data, F_OK) == 0)
		return 0;
	pid = spawn(d, rm_argv);
	if (pid > 0)
		(void)waitpid(pid, &status, 0);
	pid = spawn(d, init_argv);
	if (pid > 0)
		(void)waitpid(pid, &status, 0);
	if (status == 0)
		crash_point(CRASH_DEV_INITDB_DONE);
	if (status == 0 && rename(fresh, data) == 0) {
		crash_point(CRASH_DEV_CLUSTER_MADE);
		return 0;
	}
	(void)snprintf(why, why_size, "initdb failed: see %s/postgres.log", d->dir);
	return ERR_IO;
}

/* 0 when no postmaster of this directory is alive. */
static pid_t postmaster(const struct dev_pg *d)
{
	char path[PATH_BYTES], line[32];
	long pid = 0;
	FILE *f;

	path_of(d, "data/postmaster.pid", path);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fgets(line, sizeof line, f))
		pid = strtol(line, NULL, 10);
	(void)fclose(f);
	if (pid <= 1 || (kill((pid_t)pid, 0) < 0 && errno == ESRCH))
		return 0;
	return (pid_t)pid;
}

static bool links_to(const char *pid, const char *what, const char *path)
{
	char link[64], target[PATH_MAX];
	ssize_t n;

	(void)snprintf(link, sizeof link, "/proc/%.16s/%s", pid, what);
	n = readlink(link, target, sizeof target - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return strcmp(target, path) == 0;
}

/* The children of a postmaster that was killed end by themselves, but for one that is stopped or
 * waits for a lock whose holder was killed as well. That one keeps the shared memory for ever, and
 * no other postmaster starts as long as it does. */
static void end_orphans(const char *program, const char *data)
{
	char program_path[PATH_MAX], data_path[PATH_MAX];
	const struct dirent *entry;
	DIR *proc;

	if (!realpath(program, program_path) || !realpath(data, data_path))
		return;
	proc = opendir("/proc");
	if (!proc)
		return;
	while ((entry = readdir(proc))) {
		long pid = strtol(entry->d_name, NULL, 10);

		if (pid > 1 && links_to(entry->d_name, "cwd", data_path) &&
		    links_to(entry->d_name, "exe", program_path))
			(void)kill((pid_t)pid, SIGKILL);
	}
	(void)closedir(proc);
}

static int launch(struct dev_pg *d)
{
	char program[PATH_BYTES + 16], data[PATH_BYTES], sockets[PATH_BYTES + 32];
	const char *const argv[] = {program,
	                            "-D",
	                            data,
	                            "-c",
	                            sockets,
	                            "-c",
	                            "listen_addresses=",
	                            "-c",
	                            "max_prepared_transactions=200",
	                            "-c",
	                            "max_connections=200",
	                            "-c",
	                            "shared_buffers=128MB",
	                            NULL};

	(void)snprintf(program, sizeof program, "%s/postgres", d->bin);
	path_of(d, "data", data);
	(void)snprintf(sockets, sizeof sockets, "unix_socket_directories=%s/s", d->dir);
	if (postmaster(d) == 0)
		end_orphans(program, data);
	d->child = spawn(d, argv);
	return d->child > 0 ? 0 : ERR_IO;
}

static bool died(struct dev_pg *d)
{
	if (d->child > 0 && waitpid(d->child, NULL, WNOHANG) == d->child)
		d->child = 0;
	return d->child == 0 && postmaster(d) == 0;
}

/* After a kill -9 the orphans of the last one keep its shared memory for a moment, and the next
 * one gives up at once. */
static int launch_again(struct dev_pg *d, unsigned *n)
{
	if (++*n > LAUNCH_MAX)
		return ERR_IO;
	(void)usleep(LAUNCH_PAUSE_US);
	return launch(d);
}

static int await(struct dev_pg *d, const char *conninfo, char *why, size_t why_size)
{
	static const char *const hello[] = {"SELECT 1"};
	int64_t until_us = clock_mono_us() + START_US;
	unsigned n_launch = 1;

	while (pg_run(conninfo, hello, 1, NULL, why, why_size) < 0) {
		if (died(d) && launch_again(d, &n_launch) < 0) {
			(void)snprintf(why, why_size,
			               "PostgreSQL did not start: see %s/postgres.log", d->dir);
			return ERR_IO;
		}
		if (clock_mono_us() > until_us)
			return ERR_TIMEOUT;
		pause_briefly();
	}
	return 0;
}

static int make_database(const char *admin, char *why, size_t why_size)
{
	static const char *const exists[] = {
	    "SELECT count(*) FROM pg_database WHERE datname = 'assent'"};
	static const char *const create[] = {"CREATE DATABASE assent"};
	struct buf value = BUF_INIT;
	int rc = pg_run(admin, exists, 1, &value, why, why_size);

	if (rc == 0 && (!value.data || value.data[0] == '0'))
		rc = pg_run(admin, create, 1, NULL, why, why_size);
	buf_release(&value);
	return rc;
}

static int prepare_dirs(struct dev_pg *d, char *why, size_t why_size)
{
	char sockets[PATH_BYTES];
	int rc = find_binaries(d, why, why_size);

	path_of(d, "s", sockets);
	if (rc == 0)
		rc = find_user(d, why, why_size);
	if (rc == 0)
		rc = make_dir(d, d->dir, why, why_size);
	if (rc == 0)
		rc = make_dir(d, sockets, why, why_size);
	if (rc == 0)
		rc = take_lock(d, why, why_size);
	return rc;
}

int dev_pg_start(const char *dir, struct dev_pg **out, char *conninfo, size_t size, char *why,
                 size_t why_size)
{
	char admin[PATH_BYTES];
	struct dev_pg *d;
	int turn_fd = -1;
	int rc;

	if (dir[0] != '/' || strlen(dir) > DIR_MAX) {
		(void)snprintf(why, why_size, "--dev-dir is an absolute path of at most %d bytes",
		               DIR_MAX);
		return ERR_INVALID;
	}
	d = calloc(1, sizeof *d);
	if (!d)
		return ERR_NOMEM;
	d->lock_fd = -1;
	(void)snprintf(d->dir, sizeof d->dir, "%s", dir);
	(void)snprintf(conninfo, size, "host=%s/s user=assent dbname=assent", dir);
	(void)snprintf(admin, sizeof admin, "host=%s/s user=assent dbname=postgres", dir);
	rc = prepare_dirs(d, why, why_size);
	if (rc == 0)
		rc = take_turn(d, &turn_fd, why, why_size);
	if (rc == 0)
		rc = make_cluster(d, why, why_size);
	if (rc == 0 && postmaster(d) == 0) {
		rc = launch(d);
		crash_point(CRASH_DEV_LAUNCHED);
	}
	if (rc == 0)
		rc = await(d, admin, why, why_size);
	crash_point(CRASH_DEV_ANSWERING);
	if (rc == 0)
		rc = make_database(admin, why, why_size);
	if (turn_fd >= 0)
		(void)close(turn_fd);
	if (rc < 0) {
		dev_pg_stop(d);
		return rc;
	}
	*out = d;
	return 0;
}

void dev_pg_tend(struct dev_pg *d)
{
	if (!died(d) || clock_mono_us() < d->next_try_us)
		return;
	/* After a kill -9 its orphans keep the shared memory for a moment. */
	d->next_try_us = clock_mono_us() + 500000;
	log_warn(NULL, "the private PostgreSQL is gone; starting it again");
	if (launch(d) < 0)
		log_error(NULL, "the private PostgreSQL cannot be started");
	crash_point(CRASH_DEV_RELAUNCHED);
}

static bool ends_within(struct dev_pg *d, int64_t us)
{
	int64_t until_us = clock_mono_us() + us;

	while (!died(d)) {
		if (clock_mono_us() > until_us)
			return false;
		pause_briefly();
	}
	return true;
}

void dev_pg_stop(struct dev_pg *d)
{
	pid_t pid;

	if (!d)
		return;
	/* Only the last one may take the lock for itself. */
	if (d->lock_fd >= 0 && flock(d->lock_fd, LOCK_EX | LOCK_NB) == 0) {
		pid = postmaster(d);
		if (pid && kill(pid, SIGINT) == 0) {
			crash_point(CRASH_DEV_STOPPING);
			/* A fast shutdown may never end: when it is asked for in the middle of a
			 * crash recovery, or a backend stands still. It would refuse everybody
			 * who comes later. The next start recovers. */
			if (!ends_within(d, FAST_US) && kill(pid, SIGQUIT) == 0)
				(void)ends_within(d, STOP_US);
		}
		crash_point(CRASH_DEV_STOPPED);
	}
	if (d->lock_fd >= 0)
		(void)close(d->lock_fd);
	free(d);
}
